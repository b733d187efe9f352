package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// TestComplete asks as the scripts of the shells do.
func TestComplete(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // the first lines
	}{
		{[]string{"ch"}, "check\tcheck configurations and scripts\n:4\n"},
		{[]string{"help", "chec"}, "check\tcheck configurations and scripts\nchecker\tChecker performs the checks, for example an *HTTPChecker or a *TCPChecker.\n:4\n"},
		{[]string{"help", "pools.healthMonitors.int"}, "pools.healthMonitors.interval\tInterval is the time between the starts of regular checks, at most an hour.\n:4\n"},
		{[]string{"help", "healthMonitors.inter"}, "healthMonitors.interval\t"},
		{[]string{"help", "nothing.like.that"}, ":4\n"},
		{[]string{"help", "serve", ""}, ":4\n"},
		{[]string{"completion", ""}, "bash\nfish\npowershell\nzsh\n:4\n"},
		{[]string{"check", ""}, "yaml\nyml\njson\nlua\n:8\n"},
		{[]string{"check", "--str"}, "--strict\tfail on warnings, too\n:4\n"},
		{[]string{"check", "--event", ""}, "HTTP_AUTH\nHTTP_POST_AUTH\nHTTP_REQ\nHTTP_REQ_DATA\nLB_DONE\nHTTP_LB_FAILED\nHTTP_RESP\nRESP_FAILED\nHTTP_RESP_DATA\n:4\n"},
		{[]string{"serve", ""}, "yaml\nyml\njson\n:8\n"},
		{[]string{"serve", "a.yaml", ""}, ":4\n"},
		{[]string{"explain", "--method", ""}, "GET\nHEAD\nPOST\n"},
		{[]string{"version", ""}, ":4\n"},
	} {
		status, out, _ := invoke(t, "/nowhere", append([]string{"__complete"}, c.args...)...)
		if status != ok || !strings.HasPrefix(out, c.want) {
			t.Errorf("%q: status %d\n%s\nnot\n%s", c.args, status, out, c.want)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for shell, want := range map[string]string{
		"bash": "__start_limpet", "fish": "complete -c limpet", "powershell": "Register-ArgumentCompleter", "zsh": "#compdef limpet",
	} {
		status, out, errs := invoke(t, "/nowhere", "completion", shell)
		if status != ok || errs != "" || !strings.Contains(out, want) {
			t.Errorf("%s: status %d, %s, no %q", shell, status, errs, want)
		}
		releaseFile(t, map[string]string{"bash": "limpet.bash", "fish": "limpet.fish", "powershell": "limpet.ps1", "zsh": "_limpet"}[shell], []byte(out))
	}
}

// TestShells completes command lines in the shells themselves.
func TestShells(t *testing.T) {
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := testfiles.Write(t, map[string]string{"a.yaml": "", "b.lua": "", "c.txt": ""})
	const bashCompletion = "/usr/share/bash-completion/bash_completion"
	for _, shell := range []struct {
		name, file string // that must exist
		script     string // prints the completions of $LINE
	}{
		{"bash", bashCompletion, `
source ` + bashCompletion + `
source <(limpet completion bash)
read -ra COMP_WORDS <<<"$LINE"
[[ $LINE != *" " ]] || COMP_WORDS+=("")
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
__start_limpet
printf '%s\n' "${COMPREPLY[@]}"`},
		{"fish", "", `limpet completion fish | source
complete -C "$LINE"`},
		{"zsh", "", `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1= PS2= RPS1=; autoload -Uz compinit; compinit -u -D; source <(limpet completion zsh); compdef _limpet limpet'
zpty -w shell 'zstyle ":completion:*" list-colors ""; LISTMAX=0; setopt no_beep; bindkey "^I" complete-word'
zpty -w shell 'compadd() { if [[ ${@[(I)-(O|A|D)]} -gt 0 ]]; then builtin compadd "$@"; return; fi; local -a found; builtin compadd -O found "$@"; print -l -- "<$^found>" >>'"$PWD"'/found; builtin compadd "$@" }'
zpty -w shell 'print ready'
while zpty -r shell line '*ready*'; do break; done
zpty -n -w shell "$LINE"$'\t'
for i in {1..600}; do [[ -s found ]] && break; sleep 0.1; done
cat found; rm -f found
zpty -d shell`},
	} {
		t.Run(shell.name, func(t *testing.T) {
			program, err := exec.LookPath(shell.name)
			if err == nil && shell.file != "" {
				_, err = os.Stat(shell.file)
			}
			if err != nil {
				if _, debian := os.Stat("/etc/debian_version"); debian == nil && os.Getenv("CI") == "true" {
					t.Fatal(err) // internal/tools/check installs them
				}
				t.Skip(err)
			}
			for line, want := range map[string][]string{
				"limpet vers":                       {"version"},
				"limpet help healthMonitors.interv": {"healthMonitors.interval"},
				"limpet check --stri":               {"--strict"},
				"limpet serve ":                     {"a.yaml"},
			} {
				cmd := exec.CommandContext(t.Context(), program, "-c", shell.script)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "LINE="+line, "HOME="+dir, "TERM=dumb", "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
				out, err := cmd.CombinedOutput()
				var got []string
				for line := range strings.SplitSeq(string(out), "\n") {
					word, _, _ := strings.Cut(strings.Trim(line, "<>"), "\t")
					got = append(got, strings.TrimSpace(word))
				}
				for _, word := range want {
					if err != nil || !slices.Contains(got, word) {
						t.Errorf("%q: %v, no %q in %s", line, err, word, fmt.Sprintf("%q", out))
					}
				}
			}
		})
	}
}
