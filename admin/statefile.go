package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// The state file.
const (
	stateVersion = 1
	maxStateFile = 16 << 20
)

// A state is what operators have changed, and the content of the state file.
// It is never changed, only replaced.
type state struct {
	Version   int         `json:"version"`
	Overrides []override  `json:"overrides"`
	Edits     []groupEdit `json:"edits"`
}

// kept returns the present state.
func (a *Admin) kept() *state { return a.state.Load() }

// save writes a state to the file, and makes it the present one. Whoever calls
// it holds steering.
func (a *Admin) save(next *state) error {
	next.Version = stateVersion
	if a.config.StateFile != "" {
		if err := writeState(a.config.StateFile, next); err != nil {
			a.log.Error("admin state not saved", "path", a.config.StateFile, "error", err)
			return unavailable("the change could not be saved, and was not made")
		}
	}
	a.state.Store(next)
	return nil
}

// writeState replaces the file, so that it always has the old content or the
// new one.
func writeState(path string, s *state) (err error) {
	data := encode(s)
	if len(data) > maxStateFile {
		return fmt.Errorf("%d bytes, more than %d", len(data), maxStateFile)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".admin-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(stateMode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last. Some systems cannot do that for directories.
func syncDir(path string) error {
	d, err := filewatch.OpenDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// loadState reads the state file. One that cannot be read is moved aside.
func (a *Admin) loadState() {
	a.state.Store(&state{Version: stateVersion})
	path := a.config.StateFile
	if path == "" {
		return
	}
	s, err := readState(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		aside := path + ".bad"
		a.log.Error("admin state not read", "path", path, "moved_to", aside, "error", err, "rename_error", os.Rename(path, aside))
	default:
		a.state.Store(s)
	}
}

func readState(path string) (*state, error) {
	f, err := filewatch.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("version %d, not %d", s.Version, stateVersion)
	}
	for i := range s.Overrides {
		if err := s.Overrides[i].valid(); err != nil {
			return nil, err
		}
	}
	return &s, nil
}
