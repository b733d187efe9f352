package redisstore

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/persistencetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	single := redistest.Start(t)
	cluster := redistest.Start(t, "--cluster-enabled", "yes")
	cluster.Command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	for deadline := time.Now().Add(ampleTimeout); ; {
		if reply := cluster.Command("SET", "ready", "1"); reply == "+OK\r\n" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the cluster is not ready: %s", reply)
		}
		<-time.After(20 * time.Millisecond)
	}
	var prefixes atomic.Int32
	for _, tt := range some([]struct {
		name   string
		server *redistest.Server
		config Config
		test   persistencetest.Options
	}{
		{"default", single, Config{}, persistencetest.Options{}},
		{"without near cache", single, Config{NearEntries: -1}, persistencetest.Options{}},
		{"sliding", single, Config{Options: persistence.Options{Sliding: true}}, persistencetest.Options{Sliding: true}},
		{"short lifetimes", single, Config{Options: persistence.Options{MaxLifetime: 2 * time.Hour}}, persistencetest.Options{MaxLifetime: 2 * time.Hour}},
		{"cluster", cluster, Config{}, persistencetest.Options{}},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			persistencetest.Run(t, tt.test, func(t *testing.T) persistencetest.Store {
				c := tt.config
				c.Prefix = "test" + strconv.Itoa(int(prefixes.Add(1)))
				return open(t, tt.server, c)
			})
		})
	}
}
