package config

import (
	"strings"
	"testing"
	"time"
)

// The times of a drain are those of the file that is in force.
func TestDrainTimes(t *testing.T) {
	const text = "httpSecurity: [{name: a, action: close}]\n"
	h := open(t, map[string]string{"limpet.yaml": text}, Options{})
	for _, c := range []struct {
		add            string
		delay, timeout time.Duration
	}{
		{"", 0, 30 * time.Second},
		{"process: {drain: {delay: 5m, timeout: 24h}}", 5 * time.Minute, 24 * time.Hour},
		{"process: {drain: {timeout: 0s}}", 0, 30 * time.Second},
	} {
		changes, err := h.rewrite(text + c.add)
		if err != nil || changes.Restart != nil {
			t.Errorf("%s: %+v, %v", c.add, changes, err)
		}
		if delay, timeout := h.DrainTimes(); delay != c.delay || timeout != c.timeout {
			t.Errorf("%s: %v, %v", c.add, delay, timeout)
		}
	}
	for text, want := range map[string]string{
		"process: {drain: {delay: 301s}}":    "a.yaml:1:26: process.drain.delay: 5m1s: more than 5m",
		"process: {drain: {timeout: 25h}}":   "a.yaml:1:28: process.drain.timeout: 25h0m0s: more than 24h",
		"process: {drain: {timeout: -1s}}":   "a.yaml:1:28: process.drain.timeout: -1s: negative",
		"services: [{name: a, process: {}}]": "it stands at the top of the file",
	} {
		if _, errs := loaded(t, map[string]string{"a.yaml": text}, "a.yaml"); !strings.Contains(errs, want) {
			t.Errorf("%s: %s\nnot %s", text, errs, want)
		}
	}
	several := "services: [{name: a, httpSecurity: [{name: a, action: close}]}]\nprocess: {drain: {delay: 1s}}\n"
	if _, errs := loaded(t, map[string]string{"a.yaml": several}, "a.yaml"); errs != "" {
		t.Error(errs)
	}
}
