package policy

import (
	"net/http"
	"testing"
	"testing/synctest"
	clock "time"
)

func TestSleep(t *testing.T) {
	clock.Sleep(1)
	synctest.Test(t, func(t *testing.T) { clock.Sleep(2) })
	virtual()
	_ = http.DefaultClient
}

func virtual() {
	clock.Sleep(3) //archtest:allow sleep called in bubbles only
}
