package tools

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a machine as the step packages sees it: a directory of programs,
// most of which do nothing, and one of files.
type machine struct {
	programs, files string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t.TempDir(), t.TempDir()}
	for _, name := range []string{"bash", "dirname", "mktemp", "rm", "chmod", "tee", "grep", "cat"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(m.programs, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// add writes a program. Its script may use $FILES.
func (m machine) add(t *testing.T, file, script string) {
	t.Helper()
	if !filepath.IsAbs(file) {
		file = filepath.Join(m.programs, file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	bash := filepath.Join(m.programs, "bash")
	if err := os.WriteFile(file, fmt.Appendf(nil, "#!%s\nFILES=%q\n%s\n", bash, m.files, script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// run runs the step packages, and returns what it says.
func (m machine) run(t *testing.T) (stdout, stderr string, ok bool) {
	t.Helper()
	if _, err := os.ReadFile("check"); err != nil { // so that the go command tests a changed script anew
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(m.programs, "bash"), "check", "packages")
	cmd.Env = []string{"PATH=" + m.programs, "CHECK_FILES=" + m.files, "HOME=" + t.TempDir()}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String(), errs.String(), err == nil
}

// On a new machine "make test" installed servers and left them running as
// services, and it ran for minutes before it failed because there was no C
// compiler or no curl.
func TestPackages(t *testing.T) {
	const (
		all     = "missing: lua5.1 redis-server htpasswd openssl goaccess jq nginx haproxy node systemd-analyze /usr/bin/kill lintian rpm mandoc groff fish zsh /usr/share/bash-completion/bash_completion curl gcc /usr/include/stdlib.h /etc/ssl/certs/ca-certificates.crt"
		sudoApt = all + "; install with: sudo apt-get install lua5.1 redis-server apache2-utils openssl goaccess jq nginx haproxy nodejs systemd procps lintian rpm mandoc groff-base fish zsh bash-completion curl gcc libc6-dev ca-certificates\n"
		root    = "echo 0"
		user    = "echo 1000"

		// aptGet notes what it is called with, and whether services could start
		// meanwhile.
		aptGet = `echo "$*" >>"$FILES/log"
if [[ $1 == install ]]; then "$FILES/usr/sbin/policy-rc.d" nginx start; echo "policy $?" >>"$FILES/log"; fi`
		updated   = "update -qq"
		installed = "install -y -qq --no-install-recommends lua5.1 redis-server apache2-utils openssl goaccess jq nginx haproxy nodejs systemd procps lintian rpm mandoc groff-base fish zsh bash-completion curl gcc libc6-dev ca-certificates"
		denied    = "policy 101"
	)
	for _, tc := range []struct {
		name     string
		programs map[string]string // and their scripts
		files    []string
		policy   string   // of the machine, for services; "" for none
		says     string   // on standard error, if it fails
		log      []string // of installations
	}{
		{
			name: "Debian, root", programs: map[string]string{"go": "", "apt-get": aptGet, "id": root, "uname": "echo Linux"},
			log: []string{updated, installed, denied},
		},
		{
			name: "Debian, root, some there", programs: map[string]string{"go": "", "apt-get": aptGet, "id": root, "uname": "echo Linux", "lua5.1": "", "redis-server": "", "htpasswd": "", "openssl": "", "goaccess": "", "jq": "", "node": "", "systemd-analyze": "", "lintian": "", "rpm": "", "mandoc": "", "groff": "", "fish": "", "zsh": "", "curl": "", "gcc": ""},
			files: []string{"/usr/bin/kill", "/usr/share/bash-completion/bash_completion", "/usr/include/stdlib.h", "/etc/ssl/certs/ca-certificates.crt", "/etc/init.d/nginx"},
			log:   []string{updated, "install -y -qq --no-install-recommends nginx haproxy", denied, "disabled nginx disable"},
		},
		{
			name: "Debian, root, services forbidden", programs: map[string]string{"go": "", "apt-get": aptGet, "id": root, "uname": "echo Linux"},
			policy: "exit 101", log: []string{updated, installed, denied},
		},
		{
			name: "Debian, root, services allowed", programs: map[string]string{"go": "", "apt-get": aptGet, "id": root, "uname": "echo Linux"},
			policy: "exit 0", says: sudoApt,
		},
		{
			name: "Debian, user", programs: map[string]string{"go": "", "apt-get": aptGet, "id": user, "uname": "echo Linux"},
			says: sudoApt,
		},
		{
			name: "Debian, user, one missing", programs: map[string]string{"go": "", "apt-get": aptGet, "id": user, "uname": "echo Linux", "lua5.1": "", "redis-server": "", "htpasswd": "", "openssl": "", "goaccess": "", "jq": "", "nginx": "", "haproxy": "", "node": "", "systemd-analyze": "", "lintian": "", "rpm": "", "mandoc": "", "groff": "", "fish": "", "zsh": "", "gcc": ""},
			files: []string{"/usr/bin/kill", "/usr/share/bash-completion/bash_completion", "/usr/include/stdlib.h", "/etc/ssl/certs/ca-certificates.crt"},
			says:  "missing: curl; install with: sudo apt-get install curl\n",
		},
		{
			name: "Fedora", programs: map[string]string{"go": "", "dnf": "exit 1", "id": root, "uname": "echo Linux"},
			says: "missing: lua5.1 redis-server htpasswd openssl goaccess jq nginx haproxy node curl gcc /usr/include/stdlib.h; install with: sudo dnf install compat-lua /usr/bin/redis-server httpd-tools openssl goaccess jq nginx haproxy nodejs curl gcc glibc-devel && sudo ln -s /usr/bin/lua-5.1 /usr/local/bin/lua5.1\n",
		},
		{
			name: "macOS", programs: map[string]string{"go": "", "id": user, "uname": "echo Darwin"},
			says: "missing: lua5.1 redis-server goaccess jq nginx haproxy node timeout; install with: brew install redis goaccess jq nginx haproxy node coreutils, and Lua 5.1 from https://www.lua.org/ftp/ as lua5.1\n",
		},
		{
			name: "macOS, without Lua", programs: map[string]string{"go": "", "id": user, "uname": "echo Darwin", "redis-server": "", "goaccess": "", "jq": "", "nginx": "", "haproxy": "", "node": "", "timeout": ""},
			says: "missing: lua5.1; install with: Lua 5.1 from https://www.lua.org/ftp/ as lua5.1\n",
		},
		{
			name: "another system", programs: map[string]string{"go": "", "id": root, "uname": "echo FreeBSD"},
			says: all + "\n",
		},
		{
			name: "nothing missing", programs: map[string]string{"go": "", "apt-get": aptGet, "id": user, "uname": "echo Linux", "lua5.1": "", "redis-server": "", "htpasswd": "", "openssl": "", "goaccess": "", "jq": "", "nginx": "", "haproxy": "", "node": "", "systemd-analyze": "", "lintian": "", "rpm": "", "mandoc": "", "groff": "", "fish": "", "zsh": "", "curl": "", "gcc": ""},
			files: []string{"/usr/bin/kill", "/usr/share/bash-completion/bash_completion", "/usr/include/stdlib.h", "/etc/ssl/certs/ca-certificates.crt"},
		},
		{
			name: "without Go", programs: map[string]string{"apt-get": aptGet, "id": root, "uname": "echo Linux"},
			says: "missing: go; see https://go.dev/doc/install\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for name, script := range tc.programs {
				m.add(t, name, script)
			}
			m.add(t, "update-rc.d", `echo "disabled $*" >>"$FILES/log"`)
			policy := filepath.Join(m.files, "usr/sbin/policy-rc.d")
			if err := os.MkdirAll(filepath.Dir(policy), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, file := range tc.files {
				m.add(t, filepath.Join(m.files, file), "")
			}
			if tc.policy != "" {
				m.add(t, policy, tc.policy)
			}
			before, _ := os.ReadFile(policy)

			stdout, stderr, ok := m.run(t)
			if stderr != tc.says || ok != (tc.says == "") {
				t.Errorf("ok %t, says:\n%swant:\n%s", ok, stderr, tc.says)
			}
			if tc.says != "" && stdout != "" {
				t.Errorf("more than one line:\n%s", stdout)
			}
			log, _ := os.ReadFile(filepath.Join(m.files, "log"))
			if got, want := strings.TrimSpace(string(log)), strings.Join(tc.log, "\n"); got != want {
				t.Errorf("installed:\n%s\nwant:\n%s", got, want)
			}
			if after, _ := os.ReadFile(policy); !bytes.Equal(before, after) {
				t.Errorf("the policy for services was %q, is %q", before, after)
			}
		})
	}
}
