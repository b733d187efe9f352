// Package systemd talks to the service manager that has started the process, if
// it is systemd or speaks its protocols: sockets that the process inherits, and
// notices of its state. Without such a manager, nothing is inherited, and
// notices go nowhere.
package systemd

import (
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Sockets are those that the process has inherited, by the names that the unit
// of the sockets gives them in FileDescriptorName.
type Sockets struct {
	files  []*os.File
	opened map[string]bool
}

// Inherit takes over the sockets. Child processes do not get them. It is called
// once in a process.
func Inherit() *Sockets {
	return &Sockets{files: activation.Files(true), opened: map[string]bool{}}
}

// Files are the sockets, with their names: for a process that takes the place
// of this one, whatever is open now.
func (s *Sockets) Files() []*os.File { return slices.Clone(s.files) }

// Add adds a socket by the name of its file, which another process has
// inherited. It stays open as long as this process.
func (s *Sockets) Add(f *os.File) { s.files = append(s.files, f) }

// Open returns listeners for the sockets of a name; none if there are none. The
// sockets stay inherited when these are closed, and can be opened again.
func (s *Sockets) Open(name string) (all []net.Listener, err error) {
	s.opened[name] = true
	for _, f := range s.files {
		if f.Name() != name {
			continue
		}
		ln, err := net.FileListener(f)
		if err != nil {
			for _, ln := range all {
				_ = ln.Close()
			}
			return nil, errors.Join(errors.New("the inherited socket "+name+" cannot listen"), err)
		}
		all = append(all, ln)
	}
	return all, nil
}

// Unused returns the names of sockets that nobody has opened, sorted.
func (s *Sockets) Unused() (names []string) {
	for _, f := range s.files {
		if !s.opened[f.Name()] {
			names = append(names, f.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Ready says that the process serves, again after Reloading.
func Ready(status string) error { return notify(daemon.SdNotifyReady, "STATUS="+status) }

// Reloading says that the process loads its configuration anew.
func Reloading() error {
	clock := strings.TrimSpace(daemon.SdNotifyMonotonicUsec())
	return notify(daemon.SdNotifyReloading, clock, "STATUS=reloading")
}

// Stopping says that the process ends.
func Stopping(status string) error { return notify(daemon.SdNotifyStopping, "STATUS="+status) }

// Status says what the process does.
func Status(status string) error { return notify("STATUS=" + status) }

// Main says that another process is the main one from now on. The manager
// ignores what that one has said before, and what this one says later.
func Main(process int) error { return notify("MAINPID=" + strconv.Itoa(process)) }

// Alive says that the process makes progress.
func Alive() error { return notify(daemon.SdNotifyWatchdog) }

// Watchdog returns how much time may pass between two calls of Alive at most; 0
// means that the manager wants none.
func Watchdog() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }

// notify sends lines in one message. A manager that does not exist is no error.
func notify(lines ...string) error {
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" })
	_, err := daemon.SdNotify(false, strings.Join(lines, "\n"))
	return err
}
