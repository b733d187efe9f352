package policy

import (
	"testing"
	"testing/synctest"
	clock "time"
)

func TestSleep(t *testing.T) {
	clock.Sleep(1)
	synctest.Test(t, func(t *testing.T) { clock.Sleep(2) })
	clock.Now()
}

var sleep = clock.Sleep
