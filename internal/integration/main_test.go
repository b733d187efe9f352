package integration

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(instanceVariable) != "" {
		runInstance()
		return
	}
	goleak.VerifyTestMain(m,
		// The proxy forgets goroutines of delayed connections that are closed.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		// The client waits out a second before it asks again about a cluster.
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}
