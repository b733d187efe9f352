package jwtkeys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/suggest"
	"github.com/limpetlb/limpet/internal/tokencheck"
)

// A FieldError is a fault of one field of a [Config]. All packages of the
// module have the same type.
type FieldError = fielderr.Error

// A TokenCheck is a token and what is demanded of it. It is the type of the
// same name in package datascript.
type TokenCheck = tokencheck.Check

// A Config describes a [Verifier].
type Config struct {
	// KeySets are the sets, by the names that scripts and authenticators use.
	KeySets map[string]KeySet

	// OnEvent is called by [Verifier.Run] when the keys of a set have changed,
	// and when they could not be loaded: once for a failure that lasts. Calls
	// for different sets may overlap. Nil is allowed.
	OnEvent func(Event)
}

// A KeySet says where the keys of a set come from: File, URL, SecretFile or
// Secret, one of them.
type KeySet struct {
	// File is the path of a file with public keys, of at most 1 MiB: a JSON
	// Web Key Set (RFC 7517, section 5), or public keys and certificates in
	// PEM. Certificates stand for their keys; neither their dates nor who has
	// signed them matters.
	//
	// A set has at most 64 keys, and at most four with the same identifier or
	// without one. Secret and private keys are refused. Keys for encryption, of
	// other kinds and of other sizes are skipped, and keys of a JSON Web Key
	// Set that are not valid; a set in which all are is refused.
	File string

	// URL is where [Verifier.Run] fetches a JSON Web Key Set, or PEM, with the
	// bounds of File. Redirects are not followed. Until the first answer there
	// are no keys; if a later one is missing or not valid, the keys stay.
	URL string
	// Transport sends the requests for URL and must be set with it: an
	// lbpool.Transport, whose pool has the identity provider for a server and
	// for which the host in URL is only what the Host header says, or an
	// http.Transport. It must not answer from a cache.
	Transport http.RoundTripper
	// Interval is the time between two requests for URL: 10 seconds to a day.
	// Zero means five minutes. After a failure the next request follows after
	// one second, then after two and so on, up to 30 seconds or the Interval. A
	// token with an unknown key identifier is refused, and causes a request at
	// once, at most every 30 seconds.
	Interval time.Duration `default:"5m" min:"10s" max:"24h"`

	// SecretFile is the path of a file with a secret for HS256, HS384 and
	// HS512: all bytes of the file, a line feed at its end included, or behind
	// "base64:" what they encode; 32 bytes to 64 KiB.
	SecretFile string
	// Secret is the same, given by the program.
	Secret []byte
}

// String returns where the keys come from, without the secret. Packages fmt,
// log/slog and encoding/json do not print the secret, except that fmt prints it
// if the set is in an unexported field, where it cannot call this method.
func (s KeySet) String() string {
	switch {
	case s.File != "":
		return "{File:" + s.File + "}"
	case s.URL != "":
		return "{URL:" + s.URL + "}"
	case s.SecretFile != "":
		return "{SecretFile:" + s.SecretFile + "}"
	case s.Secret != nil:
		return "{Secret:REDACTED}"
	}
	return "{}"
}

// Format writes the result of String, whatever the verb.
func (s KeySet) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText returns the result of String.
func (s KeySet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// An Event reports a change of a key set.
type Event struct {
	Set string // name of the set
	// Keys is how many keys the set has now, and Skipped how many of the source
	// cannot be used. Both are 0 if Err is set.
	Keys, Skipped int
	// Err is nil if the keys have changed. Otherwise it says why they have not.
	Err error
}

// A Verifier verifies tokens with the keys of named sets. It may be used
// concurrently.
type Verifier struct {
	sets    map[string]*keySet
	files   *filewatch.Watcher
	onEvent func(Event)
	cache   *cache
	running atomic.Bool
}

// A keySet is a set and its keys.
type keySet struct {
	name string
	KeySet
	keys atomic.Pointer[ring]
	ask  chan struct{} // wakes up the fetcher, if there is one
}

// New returns a verifier. It reads all files: the error joins all faults of the
// configuration and of the files as [FieldError] values, with paths such as
// keySets["login"].file. Keys at URLs are fetched by [Verifier.Run]. New starts
// nothing.
func New(c Config) (*Verifier, error) {
	v := &Verifier{sets: make(map[string]*keySet, len(c.KeySets)), onEvent: c.OnEvent, cache: newCache()}
	if v.onEvent == nil {
		v.onEvent = func(Event) {}
	}
	var faults fielderr.List
	var files []filewatch.File
	var sets []*keySet // that have these files
	for _, name := range slices.Sorted(maps.Keys(c.KeySets)) {
		path := "keySets[" + strconv.Quote(name) + "]"
		faults.OptionalName(path, name)
		s := &keySet{name: name, KeySet: c.KeySets[name], ask: make(chan struct{}, 1)}
		s.keys.Store(noKeys)
		v.sets[name] = s
		if name == "" {
			faults.Addf(path, nil, "the name is empty")
		}
		for _, source := range s.sources(path, &faults) {
			if source.file == "" {
				faults.AddUnder(source.path, v.take(s, s.Secret, source.parse))
				continue
			}
			first := true
			sets = append(sets, s)
			files = append(files, filewatch.File{Path: source.file, Limit: maxSetBytes, Load: func(content []byte, err error) error {
				if err == nil {
					err = v.take(s, content, source.parse)
				}
				if err != nil && first {
					faults.Add(source.path, shown(source.file, err), err)
				}
				first = false
				return err
			}})
		}
	}
	var err error
	v.files, err = filewatch.New(files, func(i int, err error) { v.report(sets[i], err) })
	if err := faults.ErrIn(c); err != nil {
		return nil, err
	}
	return v, err
}

// shown is the path in a fault, unless the error has it.
func shown(path string, err error) any {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil
	}
	return path
}

// A source is a file or a secret with keys.
type source struct {
	path  string // in the configuration
	file  string // empty: the secret
	parse func([]byte) (*ring, error)
}

// sources checks a set and returns what is to be loaded.
func (s *keySet) sources(path string, faults *fielderr.List) (found []source) {
	n := 0
	if s.File != "" {
		n++
		found = append(found, source{path + ".file", s.File, parseKeys})
	}
	if s.SecretFile != "" {
		n++
		found = append(found, source{path + ".secretFile", s.SecretFile, parseSecret})
	}
	if s.Secret != nil {
		n++
		found = append(found, source{path + ".secret", "", parseSecret})
	}
	if s.URL != "" {
		n++
		s.checkURL(path, faults)
	} else if s.Interval != 0 || s.Transport != nil {
		faults.Addf(path+".url", nil, "missing; interval and transport belong to it")
	}
	if n != 1 {
		faults.Addf(path, nil, "exactly one of file, url, secretFile and secret must be set, not %d", n)
		return nil
	}
	return found
}

func (s *keySet) checkURL(path string, faults *fielderr.List) {
	switch u, err := url.Parse(s.URL); {
	case err != nil:
		faults.Addf(path+".url", nil, "not a URL") // it may have a password
	case u.User != nil:
		faults.Addf(path+".url", nil, "a URL with a user name")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		faults.Addf(path+".url", s.URL, "not an absolute URL of http or https")
	}
	if s.Transport == nil {
		faults.Addf(path+".transport", nil, "missing")
	}
	bounds.Check(path, s.KeySet, faults)
	bounds.SetDefaults(&s.KeySet)
}

// take gives a set the keys of a new content, and forgets the tokens that the
// old ones have verified.
func (v *Verifier) take(s *keySet, content []byte, parse func([]byte) (*ring, error)) error {
	keys, err := parse(content)
	if err != nil {
		return err
	}
	v.cache.forget(s.keys.Swap(keys))
	return nil
}

func (v *Verifier) report(s *keySet, err error) {
	e := Event{Set: s.name, Err: err}
	if err == nil {
		keys := s.keys.Load()
		e.Keys, e.Skipped = len(keys.keys), keys.skipped
	}
	v.onEvent(e)
}

// Adopt gives the sets with a URL that v has no keys of yet those that another
// verifier has fetched from the same URL for the set of that name, so that a
// new configuration need not wait for them. Call it before v is used.
func (v *Verifier) Adopt(old *Verifier) {
	for name, s := range v.sets {
		if o := old.sets[name]; o != nil && s.URL != "" && o.URL == s.URL {
			s.keys.CompareAndSwap(noKeys, o.keys.Load())
		}
	}
}

// Run fetches the keys of the sets with a URL, and watches the files of the
// others, until ctx ends, and then returns nil. It returns an error only for a
// second call while the first is running.
//
// A file is read again when its content has changed; the new keys are there
// within two seconds. Write a new file and rename it over the old one. A file
// that is missing or not valid changes nothing.
func (v *Verifier) Run(ctx context.Context) error {
	if !v.running.CompareAndSwap(false, true) {
		return errors.New("jwtkeys: the verifier is running already")
	}
	defer v.running.Store(false)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, s := range v.sets {
		if s.URL != "" {
			wg.Go(func() { v.follow(ctx, s) })
		}
	}
	return v.files.Run(ctx)
}

// VerifyToken verifies a token with the keys of a set.
//
// If reason is empty, claims is the JSON object with the claims. Otherwise the
// token is refused, because of "malformed", "algorithm", "unknown key",
// "signature", "expired", "not yet valid", "audience", "issuer" or "too long":
// more than 8 KiB, or a header of more than 2 KiB.
//
// signatures says how much work the call was: 0 if no signature was verified,
// otherwise their number, where those with large keys are several.
//
// The error is not the token's fault: there is no such set, or Algorithms or
// Leeway is not valid, which is a [*FieldError]. It does not have the token in
// it.
func (v *Verifier) VerifyToken(c TokenCheck) (claims, reason string, signatures int, err error) {
	return v.verify(c, time.Now())
}

func (v *Verifier) verify(c TokenCheck, now time.Time) (claims, reason string, signatures int, err error) {
	s, ok := v.sets[c.KeySet]
	if !ok {
		return "", "", 0, fmt.Errorf("key set %q not found", c.KeySet)
	}
	if err := check(c); err != nil {
		return "", "", 0, err
	}
	if len(c.Token) > maxToken {
		return "", tooLong, 0, nil
	}
	keys := s.keys.Load()
	id := tokenID{sha256.Sum256([]byte(c.Token)), keys}
	t, ok := v.cache.get(&id)
	if !ok {
		if t, signatures, reason = s.open(c, keys); reason != "" {
			return "", reason, signatures, nil
		}
	}
	reason = t.refuse(now, c)
	switch {
	case reason == expired:
		if ok {
			v.cache.remove(&id)
		}
	case !ok && len(t.claims) <= maxCachedBytes:
		v.cache.put(&id, t)
	}
	if reason != "" {
		return "", reason, signatures, nil
	}
	return t.claims, "", signatures, nil
}

// check checks what is demanded of a token.
func check(c TokenCheck) error {
	if c.Leeway < 0 || c.Leeway > tokencheck.MaxLeeway {
		return &FieldError{Path: "leeway", Value: c.Leeway, Err: fmt.Errorf("not between 0s and %v", tokencheck.MaxLeeway)}
	}
	for i, alg := range c.Algorithms {
		if !slices.Contains(publicAlgs, jose.SignatureAlgorithm(alg)) && !slices.Contains(secretAlgs, jose.SignatureAlgorithm(alg)) {
			return &FieldError{Path: fielderr.Index("algorithms", i), Value: alg, Err: noAlgorithm(alg)}
		}
	}
	return nil
}

// noAlgorithm says which algorithms there are.
func noAlgorithm(alg string) error {
	var all []string
	for _, known := range slices.Concat(publicAlgs, secretAlgs) {
		all = append(all, string(known))
	}
	text := "not one of " + strings.Join(all, ", ")
	if near := suggest.Nearest(strings.ToUpper(alg), slices.Values(all)); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(text)
}

// open verifies the signature of a token.
func (s *keySet) open(c TokenCheck, keys *ring) (t *verified, signatures int, reason string) {
	h, reason := parseHeader(c.Token)
	if reason != "" {
		return nil, 0, reason
	}
	// The algorithm is one of those that the kind of keys is for, before any
	// key is looked for: so no public key is ever used as a secret.
	if !slices.Contains(keys.algs, h.alg) || len(c.Algorithms) > 0 && !slices.Contains(c.Algorithms, string(h.alg)) {
		return nil, 0, wrongAlg
	}
	found, reason, missing := keys.find(h.kid, h.alg)
	if missing && s.URL != "" || keys == noKeys {
		s.askForKeys()
	}
	if reason != "" {
		return nil, 0, reason
	}
	signed, err := jose.ParseSignedCompact(c.Token, []jose.SignatureAlgorithm{h.alg})
	if err != nil {
		return nil, 0, malformed
	}
	for _, k := range found {
		signatures += k.effort
		payload, err := signed.Verify(k.value)
		if err != nil {
			continue
		}
		t, ok := parseClaims(h.alg, payload)
		if !ok {
			return nil, signatures, malformed
		}
		return t, signatures, ""
	}
	return nil, signatures, badSignature
}
