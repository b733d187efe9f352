package acceptance_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testchild"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A thousand requests at a time run a script that takes all the memory it can
// get. The process stays small, answers others, and tells those it has no room
// for to come back.
func TestMemoryBombs(t *testing.T) {
	if testchild.Running() {
		serveBombs(t)
		return
	}
	if testrace.Enabled {
		return // which needs far more memory itself
	}
	var p99, all time.Duration
	for range 5 { // the machine may have had other work
		if p99, all = healthUnderBombs(t); testing.Short() || p99 <= max(300*time.Millisecond, all/5) {
			return
		}
	}
	t.Errorf("99 %% of the health checks took up to %v, all the bombs %v", p99, all)
}

// healthUnderBombs returns what 99 % of the answers to health checks take at
// most meanwhile, and how long all the bombs take. The attackers are on the
// same machine.
func healthUnderBombs(t *testing.T) (p99, took time.Duration) {
	t.Helper()
	const most = 1536 // MiB
	requests, waiting := 1000, 200
	if testing.Short() {
		requests, waiting = 60, 20 // more than may wait, in any case
	}
	child := testchild.Start(t, testchild.Command(t, fmt.Sprint("LIMPET_WAITING=", waiting)))
	url := child.Line()

	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	tr := &http.Transport{MaxIdleConnsPerHost: requests}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: testwait.Limit}
	start := make(chan struct{})
	for range requests {
		r := newRequest(t, "GET", url+"/bomb", nil)
		wg.Go(func() {
			<-start
			res, _, err := try(client, r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[res.StatusCode]++
			if res.StatusCode == 503 && res.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		})
	}
	healthClient := &http.Client{Transport: &http.Transport{}, Timeout: testwait.Limit}
	defer healthClient.CloseIdleConnections()
	all := make(chan struct{})
	var attack time.Time
	go func() {
		wg.Wait()
		took = time.Since(attack)
		close(all)
	}()
	var health []time.Duration
	defer wg.Wait()
	// The health check has its connection already: in a new one it would wait
	// for the thousand that are opened at the same time, by this process.
	if _, _, err := try(healthClient, newRequest(t, "GET", url+"/health", nil)); err != nil {
		t.Error(err)
	}
	attack = time.Now()
	close(start)
	for done := false; !done || len(health) < 20; {
		select {
		case <-all:
			done = true
		default:
		}
		begun := time.Now()
		res, body, err := try(healthClient, newRequest(t, "GET", url+"/health", nil))
		if err != nil || res.StatusCode != 200 || body != "ok" {
			t.Fatalf("health: %v %q %v", res, body, err)
		}
		health = append(health, time.Since(begun))
	}
	child.End()
	peak := child.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024
	slices.Sort(health)
	p99 = health[len(health)*99/100]
	t.Logf("statuses %v; %d MiB at most; health: %d answers, half of them within %v, 99 %% within %v", statuses, peak, len(health), health[len(health)/2], p99)
	if peak > most {
		t.Errorf("the process came to have %d MiB, want at most %d", peak, most)
	}
	if statuses[500] == 0 || statuses[503] == 0 || statuses[500]+statuses[503] != requests {
		t.Errorf("statuses %v: want some scripts that ended by their budget, and others that found no room", statuses)
	}
	return p99, took
}

// serveBombs is the process that is attacked.
func serveBombs(t *testing.T) {
	waiting, err := strconv.Atoi(os.Getenv("LIMPET_WAITING"))
	if err != nil {
		t.Fatal(err)
	}
	debug.SetMemoryLimit(1 << 30)
	bomb := onRequest(t, "bomb", `local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(500000) .. i end`)
	vs := newVirtualService(t, limpet.Config{Scripts: []limpet.Script{bomb}, Scripting: limpet.Scripting{Limits: datascript.Limits{Waiting: waiting}}})
	mux := http.NewServeMux()
	mux.Handle("/bomb", vs.Wrap(http.NotFoundHandler()))
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
	fmt.Println(startSite(t, http1, listen(t, ""), mux).URL)
	testchild.Wait()
}
