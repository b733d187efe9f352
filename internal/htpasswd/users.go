// Package htpasswd checks names and passwords against an htpasswd file, such as
// the tool of Apache's server writes, with hashes of bcrypt.
//
// A bcrypt hash is slow to compute on purpose, so a [Checker] remembers what
// was right, lets equal requests wait for one computation, and computes only a
// few hashes at a time: a flood of wrong passwords takes at most half of the
// processors. A user that does not exist costs as much time as a wrong
// password.
package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

const (
	// MaxBytes is how long a file may be.
	MaxBytes = 16 << 20

	maxUsers  = 100_000
	maxUser   = 255
	maxCost   = 14 // a second or two
	maxFaults = 20

	// MaxPassword is how long a password may be. Bcrypt looks at the first 72
	// bytes.
	MaxPassword = 1024
	bcryptBytes = 72
)

// users are the users of a file. They do not change.
type users struct {
	hashes map[string]string // by name
	list   []string          // all hashes
}

// parse reads a file: lines of a name, a colon and a hash. Empty lines and
// those that begin with # are skipped. The error joins the faults of all lines,
// and shows no hash.
func parse(content []byte) (*users, error) {
	if len(content) > MaxBytes {
		return nil, fmt.Errorf("more than %d bytes", MaxBytes)
	}
	u := &users{hashes: map[string]string{}}
	lines := map[string]int{} // of each name
	var faults []error
	n, wrong := 0, 0
	for line := range bytes.Lines(content) {
		n++
		text := strings.TrimRight(string(line), " \t\r\n")
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if text == "" || text[0] == '#' {
			continue
		}
		name, hash, err := parseLine(text)
		switch first, ok := lines[name]; {
		case err != nil:
		case ok:
			err = fmt.Errorf("user %q is already in line %d", name, first)
		case len(u.list) == maxUsers:
			return nil, fmt.Errorf("line %d: more than %d users", n, maxUsers)
		}
		if err != nil {
			if wrong++; wrong <= maxFaults {
				faults = append(faults, fmt.Errorf("line %d: %w", n, err))
			}
			continue
		}
		lines[name] = n
		u.hashes[name] = hash
		u.list = append(u.list, hash)
	}
	if wrong > maxFaults {
		faults = append(faults, fmt.Errorf("and %d more faults", wrong-maxFaults))
	}
	if len(faults) == 0 && len(u.list) == 0 {
		return nil, errors.New("no users")
	}
	return u, errors.Join(faults...)
}

func parseLine(text string) (name, hash string, err error) {
	name, hash, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return "", "", errors.New("no colon behind the name") // all of it may be a password
	case !isText(name) || name == "" || len(name) > maxUser:
		return "", "", fmt.Errorf("the name is empty, longer than %d bytes, or not plain text", maxUser)
	}
	if kind := foreign(hash); kind != "" {
		return "", "", fmt.Errorf("user %q: %s is not supported; make a bcrypt hash, with htpasswd -B", name, kind)
	}
	if cost, _ := strconv.Atoi(hash[4:6]); cost < bcrypt.MinCost || cost > maxCost {
		return "", "", fmt.Errorf("user %q: the cost %d is not between %d and %d; see htpasswd -C", name, cost, bcrypt.MinCost, maxCost)
	}
	return name, hash, nil
}

// foreign says what a text is that is not a bcrypt hash; empty if it is one.
func foreign(hash string) string {
	switch {
	case len(hash) == 60 && (strings.HasPrefix(hash, "$2y$") || strings.HasPrefix(hash, "$2b$") || strings.HasPrefix(hash, "$2a$")) &&
		isDigit(hash[4]) && isDigit(hash[5]) && hash[6] == '$' && strings.Trim(hash[7:], alphabet) == "":
		return ""
	case strings.HasPrefix(hash, "$2"):
		return "this kind of bcrypt hash"
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
		return "an MD5 hash"
	case strings.HasPrefix(hash, "{SHA}"):
		return "a SHA-1 hash"
	case strings.HasPrefix(hash, "$5$"):
		return "a SHA-256 hash"
	case strings.HasPrefix(hash, "$6$"):
		return "a SHA-512 hash"
	case strings.HasPrefix(hash, "$"), strings.HasPrefix(hash, "{"):
		return "this kind of hash"
	case hash == "":
		return "an empty password"
	}
	return "a plain password or a DES hash"
}

const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isText reports whether s is UTF-8 without control characters, as RFC 7617,
// section 2, demands of names and passwords.
func isText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// find returns the hash of a user. For a user that does not exist, it returns
// that of another one, always the same, and false: so the time that a
// comparison takes does not tell, even if the costs of the hashes differ.
func (u *users) find(name string) (hash string, ok bool) {
	if hash, ok = u.hashes[name]; ok {
		return hash, true
	}
	return u.list[maphash.String(seed, name)%uint64(len(u.list))], false
}
