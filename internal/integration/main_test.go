package integration

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(instanceVariable) != "" {
		runInstance()
		return
	}
	goleak.VerifyTestMain(m,
		// The proxy forgets goroutines of delayed connections that are closed.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction(testleak.RedisClient))
}
