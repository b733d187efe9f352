package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/htpasswd"
	"github.com/limpetlb/limpet/lbpool"
)

// An authentication makes an [limpet.Authenticator].
type authentication interface {
	authenticator(b *builder, path string) (limpet.Authenticator, error)
}

type (
	basic  struct{ limpet.BasicConfig }
	bearer struct{ limpet.BearerConfig }
)

// authentication makes the authenticator of a service.
func (b *builder) authentication(c authentication) {
	if c == nil {
		return
	}
	const path = "authentication"
	a, err := c.authenticator(b, path)
	b.fault(err, path)
	if err == nil {
		b.cfg.Authenticator = a
	}
}

func (c basic) authenticator(b *builder, path string) (limpet.Authenticator, error) {
	cfg := c.BasicConfig
	var err error
	if cfg.File, err = b.watched(path+".file", cfg.File, htpasswd.MaxBytes); err != nil {
		return nil, &fielderr.Error{Path: "file", Value: inFile{}, Err: err}
	}
	if b.log != nil {
		log := b.log.With(slog.String("vs", cmp.Or(b.cfg.Name, defaultName)), slog.String("path", cfg.File))
		cfg.OnReload = func(err error) {
			if err != nil {
				log.Warn("users not reloaded", slog.Any("error", err))
				return
			}
			log.Info("users reloaded")
		}
	}
	a, err := limpet.NewBasicAuthenticator(cfg)
	if err != nil {
		return nil, asWritten(err)
	}
	b.background = append(b.background, a.Run)
	return a, nil
}

func (c bearer) authenticator(b *builder, _ string) (limpet.Authenticator, error) {
	cfg := c.BearerConfig
	if cfg.Tokens = b.cfg.Tokens; cfg.Tokens == nil {
		cfg.Tokens = verifiers{}
	}
	a, err := limpet.NewBearerAuthenticator(cfg)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// A keySetConfig is a [jwtkeys.KeySet] in YAML.
type keySetConfig struct {
	// Name is the key set's, for scripts and bearer authenticators.
	Name string
	jwtkeys.KeySet
	// Secret is a text as SecretFile may have it.
	Secret keySecret
	// Pool has the identity provider for URL as its server.
	Pool string
	// TLS says how to speak TLS to the servers of Pool.
	TLS *tlsClient
}

// A keySecret is a secret in plain text.
type keySecret string

// maxKeyFile is how long a file with keys may be, in bytes.
const maxKeyFile = 1 << 20

// keySets makes the verifier of the key sets.
func (b *builder) keySets() {
	if b.shared != nil {
		b.cfg.Tokens = b.shared.cfg.Tokens
	}
	if len(b.config.KeySets) == 0 {
		return
	}
	b.keyNames = map[string]bool{}
	cfg := jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{}, OnEvent: b.keyEvent}
	paths := map[string]string{}
	for i, c := range b.config.KeySets {
		path := b.at("keySets", i)
		if err := badName(c.Name, b.keyNames[c.Name]); err != nil {
			b.fault(err, "%s.name", path)
			continue
		}
		b.shadows("keySets", i, "a key set", c.Name, b.shared != nil && b.shared.keyNames[c.Name])
		b.keyNames[c.Name], paths[c.Name] = true, path
		set, err := b.keySet(c, path)
		b.fault(err, "%s", path)
		if err != nil {
			set = standInKeys
		}
		cfg.KeySets[c.Name] = set
	}
	v, err := jwtkeys.New(cfg)
	if err != nil {
		for name, path := range paths {
			err = fielderr.Rename(fielderr.Key("keySets", name), path, err)
			cfg.KeySets[name] = standInKeys
		}
		b.fault(asWritten(err), "")
		if v, err = jwtkeys.New(cfg); err != nil {
			b.lost = true
			return
		}
	}
	if b.old.keys != nil {
		v.Adopt(b.old.keys)
	}
	b.now.keys = v
	b.background = append(b.background, v.Run)
	if b.cfg.Tokens = v; b.shared != nil {
		b.cfg.Tokens = verifiers{own: v, names: b.keyNames, shared: b.shared.cfg.Tokens}
	}
}

// standInKeys take the place of a key set with a fault, for what refers to it.
var standInKeys = jwtkeys.KeySet{Secret: make([]byte, 64)}

// keySet is what c says, which stands at a path.
func (b *builder) keySet(c keySetConfig, path string) (set jwtkeys.KeySet, err error) {
	var faults fielderr.List
	set = c.KeySet
	for key, file := range map[string]*string{"file": &set.File, "secretFile": &set.SecretFile} {
		if *file, err = b.watched(path+"."+key, *file, maxKeyFile); err != nil {
			faults.Add(key, inFile{}, err)
		}
	}
	if c.Secret != "" {
		set.Secret = []byte(c.Secret)
	}
	switch {
	case c.URL == "" && (c.Pool != "" || c.TLS != nil || c.Interval != 0):
		faults.Addf("url", nil, "missing; pool, tls and interval belong to it")
	case c.URL != "" && c.Pool == "":
		faults.Addf("pool", nil, "missing; its servers are asked for url")
	case c.Pool != "" && b.poolNamed(c.Pool) == nil:
		faults.Addf("pool", inFile{}, "pool %q not found", c.Pool)
	case c.Pool != "":
		set.Transport = b.fetcher(c, path)
	}
	return set, faults.Err()
}

// fetcher returns a transport to the servers of the pool from which keys are
// fetched.
func (b *builder) fetcher(c keySetConfig, path string) *lbpool.Transport {
	base := lbpool.NewBase()
	if c.TLS != nil {
		base.TLSClientConfig = b.tlsClient(*c.TLS, path+".tls")
	}
	sender := lbpool.NewHTTP1(base)
	t := &lbpool.Transport{Pool: b.poolNamed(c.Pool), Base: sender}
	b.fetchers[t] = c.Pool
	b.background = append(b.background, func(ctx context.Context) error {
		defer func() {
			if idle, ok := sender.(interface{ CloseIdleConnections() }); ok {
				idle.CloseIdleConnections()
			}
		}()
		return t.Pool.Run(ctx) // also for a pool that no service has
	})
	return t
}

// keyEvent logs a change of a key set.
func (b *builder) keyEvent(e jwtkeys.Event) {
	switch {
	case b.log == nil:
	case e.Err != nil:
		b.log.Warn("key set not changed", slog.String("keySet", e.Set), slog.Any("error", e.Err))
	default:
		b.log.Info("key set changed", slog.String("keySet", e.Set), slog.Int("keys", e.Keys), slog.Int("skipped", e.Skipped))
	}
}

// verifiers ask the key sets of a service, or those that services share.
type verifiers struct {
	own    *jwtkeys.Verifier
	names  map[string]bool          // of its sets
	shared datascript.TokenVerifier // nil if there are none
}

// VerifyToken implements [datascript.TokenVerifier].
func (v verifiers) VerifyToken(c datascript.TokenCheck) (claims, reason string, signatures int, err error) {
	switch {
	case v.names[c.KeySet]:
		return v.own.VerifyToken(c)
	case v.shared != nil:
		return v.shared.VerifyToken(c)
	}
	return "", "", 0, fmt.Errorf("key set %q not found", c.KeySet)
}

// watched returns the path of a file that the object of a path reads itself,
// and goes on to watch. Whether it can be read, the object says.
func (b *builder) watched(path, name string, max int64) (string, error) {
	if name == "" {
		return "", nil
	}
	if _, is := b.file.files.(*osFiles); !is {
		if !filepath.IsAbs(name) {
			return "", errNotAbsolute
		}
		b.file.files.touch(name)
		return name, nil
	}
	if _, err := b.read(path, name, max); errors.Is(err, errNotAName) {
		return "", err
	}
	return b.file.files.where(b.file.dir(fielderr.Join(b.prefix, path)), name), nil
}

// asWritten returns the faults of an object without the paths of files that it
// watches, so that they show what the configuration says.
func asWritten(err error) error {
	return fielderr.Map(err, func(err error) error {
		fault, ok := err.(*fielderr.Error) //nolint:errorlint // as the constructor returns it
		if ok && strings.HasSuffix(strings.ToLower(fault.Path), "file") {
			return &fielderr.Error{Path: fault.Path, Value: inFile{}, Err: fault.Err}
		}
		return err
	})
}

// errNotAbsolute is the error of a relative name of a file that is not read
// through the [fs.FS] of a configuration.
var errNotAbsolute = errors.New("not an absolute name, which a configuration that is no file needs")
