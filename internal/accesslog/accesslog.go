// Package accesslog says how the records of a virtual service are logged: in
// which format, with what, and where to. It has the grammar of the formats.
// What is in a line is the business of the virtual service.
package accesslog

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/logqueue"
)

// A Format is how a record is written.
type Format uint8

// The formats. The zero value means that the configuration has none.
const (
	Text      Format = iota + 1 // key=value, as log/slog writes it
	JSON                        // an object with flat keys in a fixed order
	Combined                    // as Apache does
	VCombined                   // as Apache does, with host and port in front
	Avi                         // an object with the keys of Avi
	Off                         // not at all
)

var formats = []string{Text: "text", JSON: "json", Combined: "combined", VCombined: "vcombined", Avi: "avi", Off: "off"}

// String returns the name; "invalid" for other values.
func (f Format) String() string { return enumtext.String(f, formats) }

// MarshalText returns the name. It fails for other values.
func (f Format) MarshalText() ([]byte, error) { return enumtext.Marshal(f, formats) }

// UnmarshalText reads a name.
func (f *Format) UnmarshalText(text []byte) error { return enumtext.Unmarshal(f, text, formats) }

// Apache reports whether lines have the grammar of Apache's, which has requests
// only.
func (f Format) Apache() bool { return f == Combined || f == VCombined }

// A Field is a fact that lines have if they are asked to.
type Field uint8

// The fields.
const (
	UserAgent    Field = iota + 1 // the header
	Referer                       // the header
	Query                         // of the request, behind the path
	TLS                           // version, cipher suite, server name, resumption, subject of the client's certificate
	RequestBytes                  // of the request's body, as far as it was read
)

var fields = []string{UserAgent: "userAgent", Referer: "referer", Query: "query", TLS: "tls", RequestBytes: "requestBytes"}

// String returns the name; "invalid" for other values.
func (f Field) String() string { return enumtext.String(f, fields) }

// MarshalText returns the name. It fails for other values.
func (f Field) MarshalText() ([]byte, error) { return enumtext.Marshal(f, fields) }

// UnmarshalText reads a name.
func (f *Field) UnmarshalText(text []byte) error { return enumtext.Unmarshal(f, text, fields) }

// Fields is a set of fields.
type Fields uint8

// FieldsOf returns the set of a list.
func FieldsOf(list []Field) (set Fields) {
	for _, f := range list {
		set |= 1 << f
	}
	return set
}

// Has reports whether a field is in the set.
func (s Fields) Has(f Field) bool { return s&(1<<f) != 0 }

// Levels are the levels of records by their classes.
type Levels struct {
	Significant slog.Level // of what deserves a look
	Filtered    slog.Level // of what a rule or a script has asked for
	Other       slog.Level // of the rest
}

// DefaultLevels are the levels where nothing else is configured.
var DefaultLevels = Levels{Significant: slog.LevelWarn, Filtered: slog.LevelInfo, Other: slog.LevelInfo}

// A Log is where records go. It does not change.
type Log struct {
	Format Format          // of lines
	Fields Fields          // that lines have in addition
	Levels Levels          // that lines show
	Least  slog.Level      // of records that are written
	Queue  *logqueue.Queue // nil if the format is Off
	text   slog.Handler
}

// Text returns the handler for the format Text.
func (l *Log) Text() slog.Handler { return l.text }

// NewLog returns a copy of l that is ready to use.
func NewLog(l Log) *Log {
	if l.Format == Text {
		o := &slog.HandlerOptions{Level: slog.LevelDebug} // the caller looks at Least
		l.text = l.Queue.Handler(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, o) })
	}
	return &l
}

// Takes reports whether records of a level are written.
func (l *Log) Takes(level slog.Level) bool { return l.Format != Off && level >= l.Least }

// A Handler is the handler of a virtual service's Logger. It says to the
// service where its records go. All other lines go to the Handler within.
type Handler struct {
	slog.Handler
	log *atomic.Pointer[Log]
}

// NewHandler returns a handler around one, to which records go as well until
// Use.
func NewHandler(h slog.Handler) *Handler { return &Handler{h, new(atomic.Pointer[Log])} }

// Use says where records go from now on; with nil they go to the handler
// within.
func (h *Handler) Use(l *Log) { h.log.Store(l) }

// Log returns what was last given to Use.
func (h *Handler) Log() *Log { return h.log.Load() }

// WithAttrs implements [slog.Handler]. Records do not have the attributes.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.Handler.WithAttrs(attrs), h.log}
}

// WithGroup implements [slog.Handler]. Records are in no group.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.Handler.WithGroup(name), h.log}
}

var _ slog.Handler = (*Handler)(nil)

// Of returns where the records of a logger go; nil if they are lines like
// others.
func Of(l *slog.Logger) *Handler {
	h, _ := l.Handler().(*Handler)
	return h
}

// Enabled reports whether a record of a level would be logged, by log or, if
// that is nil, by l.
func Enabled(ctx context.Context, log *Log, l *slog.Logger, level slog.Level) bool {
	if log != nil {
		return log.Takes(level)
	}
	return l.Enabled(ctx, level)
}
