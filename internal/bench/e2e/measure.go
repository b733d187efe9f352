package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed configs
var configs embed.FS

// A sample is what one measurement found.
type sample struct {
	requests int
	rate     float64 // requests a second
	cpu      time.Duration
	p50, p99 time.Duration
	rss      int64 // in bytes, at the end
}

func (s sample) cpuPerRequest() float64 { return float64(s.cpu.Microseconds()) / float64(s.requests) }

func (s sample) String() string {
	return fmt.Sprintf("%6.1f µs of CPU, %6.0f requests/s, p50 %v, p99 %v", s.cpuPerRequest(), s.rate, s.p50, s.p99)
}

// A bench has the servers running.
type bench struct {
	dir         string
	connections int
	upstreams   []string
	servers     *process
}

func newBench(ctx context.Context, connections int) (*bench, error) {
	if runtime.NumCPU() < 2 {
		return nil, fmt.Errorf("at least two processors are needed, one for the proxy alone; there is %d", runtime.NumCPU())
	}
	dir, err := os.MkdirTemp("", "limpet-e2e-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, connections: connections}
	for range 2 {
		b.upstreams = append(b.upstreams, freeAddr())
	}
	b.servers, err = b.start(ctx, target{name: "servers", program: "nginx", config: "upstream.conf", args: nginxArgs}, "", elsewhere())
	if err == nil {
		err = await(ctx, b.upstreams[0], b.servers)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	if b.servers != nil {
		b.servers.stop()
	}
	os.RemoveAll(b.dir)
}

// The proxy has the first processor for itself.
const proxyCPU = "0"

func elsewhere() string { return fmt.Sprintf("1-%d", runtime.NumCPU()-1) }

// measure starts a target, loads it, and stops it.
func (b *bench) measure(ctx context.Context, t target, length time.Duration) (sample, error) {
	listen := freeAddr()
	p, err := b.start(ctx, t, listen, proxyCPU)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	if err := await(ctx, listen, p); err != nil {
		return sample{}, err
	}
	if _, err := b.load(ctx, listen, length/5); err != nil {
		return sample{}, fmt.Errorf("warming up: %w", err)
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	s, err := b.load(ctx, listen, length)
	if err != nil {
		return sample{}, fmt.Errorf("%w\n%s", err, p.output.Bytes())
	}
	after, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	s.cpu = after - before
	s.rss, err = p.rss()
	return s, err
}

// load sends requests with wrk.
func (b *bench) load(ctx context.Context, addr string, length time.Duration) (sample, error) {
	seconds := max(1, int(length.Round(time.Second).Seconds()))
	out, err := exec.CommandContext(ctx, "taskset", "-c", elsewhere(), "wrk", "--latency", "-t1",
		"-c"+strconv.Itoa(b.connections), "-d"+strconv.Itoa(seconds)+"s", "http://"+addr+"/").CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return parseWrk(string(out))
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^ *(\d+) requests in `)
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec: +([\d.]+)`)
	wrkP50      = regexp.MustCompile(`(?m)^ +50% +(\S+)$`)
	wrkP99      = regexp.MustCompile(`(?m)^ +99% +(\S+)$`)
)

// parseWrk reads wrk's report. A measurement with errors is none.
func parseWrk(out string) (s sample, err error) {
	if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
		return s, fmt.Errorf("some requests failed:\n%s", out)
	}
	texts := make([]string, 4)
	for i, re := range []*regexp.Regexp{wrkRequests, wrkRate, wrkP50, wrkP99} {
		m := re.FindStringSubmatch(out)
		if m == nil {
			return s, fmt.Errorf("wrk's report is not understood:\n%s", out)
		}
		texts[i] = m[1]
	}
	if s.requests, err = strconv.Atoi(texts[0]); err != nil || s.requests == 0 {
		return s, fmt.Errorf("no requests in wrk's report:\n%s", out)
	}
	if s.rate, err = strconv.ParseFloat(texts[1], 64); err != nil {
		return s, err
	}
	if s.p50, err = time.ParseDuration(texts[2]); err != nil {
		return s, err
	}
	s.p99, err = time.ParseDuration(texts[3])
	return s, err
}

// A process is a program that was started here.
type process struct {
	*exec.Cmd
	output bytes.Buffer
	done   chan error
}

// start writes the target's configuration and starts it on some processors.
func (b *bench) start(ctx context.Context, t target, listen, cpus string) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "target-")
	if err != nil {
		return nil, err
	}
	values := map[string]any{"Dir": dir, "Listen": listen, "Upstreams": b.upstreams}
	for _, name := range append([]string{t.config}, t.files...) {
		if name == "" {
			continue
		}
		text, err := configs.ReadFile("configs/" + name)
		if err != nil {
			return nil, err
		}
		out, err := expand(name, string(text), values)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), out, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	program, args := t.program, []string(nil)
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
		args = []string{"-serve", t.name, "-listen", listen, "-upstreams", strings.Join(b.upstreams, ",")}
	} else {
		args = t.args(filepath.Join(dir, t.config))
	}
	p := &process{Cmd: exec.CommandContext(ctx, "taskset", append([]string{"-c", cpus, program}, args...)...), done: make(chan error, 1)}
	p.Stdout, p.Stderr = &p.output, &p.output
	p.Env = append(os.Environ(), "GOMAXPROCS=1", "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.Wait() }()
	return p, nil
}

// expand fills in a configuration.
func expand(name, text string, values map[string]any) ([]byte, error) {
	tmpl, err := template.New(name).Funcs(template.FuncMap{"port": port}).Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = tmpl.Execute(&out, values)
	return out.Bytes(), err
}

// stop ends the process, by force if it must.
func (p *process) stop() {
	_ = syscall.Kill(-p.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// cpu is the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime = 11, 12 // counted from the state, which follows the name
	var ticks int64
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const ticksPerSecond = 100 // sysconf(_SC_CLK_TCK), the same on every Linux that Go runs on
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// rss is the resident memory of the process.
func (p *process) rss() (int64, error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// await waits until somebody answers at addr.
func await(ctx context.Context, addr string, p *process) error {
	deadline := time.Now().Add(15 * time.Second)
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		res, err := client.Get("http://" + addr + "/")
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %s", res.Status)
		}
		select {
		case end := <-p.done:
			p.done <- end
			return fmt.Errorf("ended (%v) before it answered:\n%s", end, p.output.Bytes())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer: %w", err)
		}
	}
}

// freeAddr is an address of loopback that nobody listens at.
func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}
