package persistence

import (
	"fmt"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// A floodPlan is how unknown clients flood a full table, and how clients return
// meanwhile. Shares are of the capacity in flood keys.
type floodPlan struct {
	uses   int     // of flood keys after their insertion
	spread float64 // between two of them; 0: at once
	every  int     // so many keys are used in one; 0: all
	back   float64 // between two visits of a client; of a new one, eight tenths of the table at most

	lost, newLost float64 // percentages of visits that are accepted
}

// A floodTally counts the visits of clients, and those at which they were not
// known.
type floodTally struct{ visits, lost, newVisits, newLost int }

// run floods a table with eight times its capacity. One in thirteen entries is
// that of a client that returns again and again, and one flood key in a hundred
// is a new client that returns once.
func (p floodPlan) run(table *Table[int, int], capacity int) (tally floodTally) {
	const newcomer = 1 << 40
	sessions := capacity / 13
	period, gap := int(p.back*float64(capacity)), max(1, int(p.spread*float64(capacity)))
	came := 0
	for i := range capacity { // until it is full; clients have been there once, in turn
		if from := capacity - period; i >= from && came < (i+1-from)*sessions/period {
			came++
			table.Insert(-came, 0, time.Hour)
		} else {
			table.Insert(newcomer-1-i, 0, time.Hour)
		}
	}
	visited := 0
	for i := range 8 * capacity {
		table.Insert(i, 0, time.Hour)
		for use := 1; use <= p.uses; use++ {
			key := i
			if p.spread > 0 {
				key -= use * gap
			}
			if key >= 0 && key%max(1, p.every) == 0 {
				table.Lookup(key, 0)
			}
		}
		for ; visited < (i+1)*sessions/period; visited++ { // by turns
			client := -1 - visited%sessions
			tally.visits++
			if _, _, ok := table.Lookup(client, 0); !ok {
				tally.lost++
				table.Insert(client, 0, time.Hour)
			}
		}
		if i%100 == 0 {
			table.Insert(newcomer+i, 0, time.Hour)
			if came := i - int(min(p.back, 0.8)*float64(capacity))/100*100; came >= 0 {
				tally.newVisits++
				if _, _, ok := table.Lookup(newcomer+came, 0); !ok {
					tally.newLost++
				}
			}
		}
	}
	return tally
}

// TestFloodLeavesClients has unknown clients flood a full table with keys that
// they use never again, once, twice and three times, at once or later. Clients
// that return before nine tenths of the table have been replaced keep their
// servers: being used often is no way to push them out.
func TestFloodLeavesClients(t *testing.T) {
	for _, tt := range []struct {
		name string
		floodPlan
	}{
		{"not used", floodPlan{uses: 0, back: 0.6, lost: 1, newLost: 1}},
		{"used once", floodPlan{uses: 1, back: 0.6, lost: 1, newLost: 1}},
		{"used twice", floodPlan{uses: 2, back: 0.6, lost: 1, newLost: 1}},
		{"used three times", floodPlan{uses: 3, back: 0.6, lost: 1, newLost: 1}},
		{"every second used", floodPlan{uses: 1, every: 2, back: 0.6, lost: 1, newLost: 1}},
		{"every third used", floodPlan{uses: 1, every: 3, back: 0.6, lost: 1, newLost: 1}},
		{"used an eighth of the table later", floodPlan{uses: 1, spread: 0.125, back: 0.6, lost: 10, newLost: 10}},
		{"used twice, an eighth of the table apart", floodPlan{uses: 2, spread: 0.125, back: 0.6, lost: 10, newLost: 10}},
		{"every third used, an eighth of the table later", floodPlan{uses: 1, every: 3, spread: 0.125, back: 0.6, lost: 1, newLost: 1}},
		{"used three tenths of the table later", floodPlan{uses: 1, spread: 0.3, back: 0.6, lost: 2, newLost: 2}},
		{"clients that come rarely", floodPlan{uses: 0, back: 0.9, lost: 1, newLost: 1}},
		{"clients that come rarely, used once", floodPlan{uses: 1, back: 0.9, lost: 5, newLost: 1}},
	} {
		capacities := []int{131_072, 2_000}
		if testing.Short() {
			capacities = capacities[1:]
		}
		for _, capacity := range capacities {
			t.Run(fmt.Sprintf("%s, %d entries", tt.name, capacity), func(t *testing.T) {
				if testrace.Enabled {
					capacity = min(capacity, 8_000)
				}
				table := NewTable[int, int](Options{MaxEntries: capacity})
				tally := tt.run(table, capacity)
				lost := 100 * float64(tally.lost) / float64(tally.visits)
				newLost := 100 * float64(tally.newLost) / float64(tally.newVisits)
				t.Logf("%d entries: %.2f %% of the visits of clients lost, %.2f %% of newcomers", capacity, lost, newLost)
				if lost > tt.lost || newLost > tt.newLost {
					t.Errorf("%d entries: %.2f %% of the visits of clients lost, of newcomers %.2f %%", capacity, lost, newLost)
				}
				checkInvariants(t, table)
			})
		}
	}
}

// Clients that came one after the other, as at the beginning of a working day,
// are next to one another in the order of age, too. One in eleven of them lost
// its server when it was next to be evicted in a flood, although all had been
// back before half of the table was replaced: an insertion spares ten entries,
// and the next one went, used or not.
func TestFloodAfterRush(t *testing.T) {
	const entries, clients, flood = 13_000, 1000, 7800
	for _, before := range []int{0, 1, clients, flood, 2 * entries} {
		table := NewTable[int, string](Options{MaxEntries: entries})
		unknown := entries
		strange := func(n int) {
			for range n {
				unknown++
				table.Insert(unknown, "unknown", time.Hour)
			}
		}
		strange(before)
		lost := 0
		for round := range 6 {
			for client := range clients {
				if _, _, ok := table.Lookup(client, 0); !ok {
					table.Insert(client, "client", time.Hour)
					if round > 0 {
						lost++
					}
				}
			}
			strange(flood)
		}
		if lost > 0 {
			t.Errorf("%d unknown clients before them: %d of %d visits found nothing", before, lost, 5*clients)
		}
	}
}
