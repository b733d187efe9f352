package admin

import (
	"fmt"

	"github.com/limpetlb/limpet"
)

// A healthView explains the health of a virtual service.
type healthView struct {
	Score float64         `json:"score"` // 0 to 100
	Color string          `json:"color"` // "green", "yellow", "orange" or "red"
	Parts []healthPart    `json:"parts"` // what the score consists of
	Input healthInputView `json:"input"` // what the parts were computed from
}

// A healthPart is one part of the score.
type healthPart struct {
	Name  string  `json:"name"`  // "performance", "resources", "anomaly" or "security"
	Value float64 `json:"value"` // points: of performance up to 100, of the others a penalty
	Text  string  `json:"text"`  // the numbers behind it
}

// healthInputView has the counts behind the health, of about five minutes.
type healthInputView struct {
	WindowSeconds float64  `json:"window_seconds"` // that the counts cover
	Requests      uint64   `json:"requests"`       // completed, the refused ones included
	Connections   uint64   `json:"connections"`    // denied when they were accepted
	Drops         uint64   `json:"drops"`          // requests and connections that policies refused
	Failed        uint64   `json:"failed"`         // requests that failed
	Slow          uint64   `json:"slow"`           // requests that were slow
	Busy          uint64   `json:"busy"`           // requests for which no script could run
	Recent        loadView `json:"recent"`         // the last minute
	Before        loadView `json:"before"`         // the four minutes before
	Servers       int      `json:"servers"`        // that are not disabled
	ServersUp     int      `json:"servers_up"`     // of them, those that are up
	Saturated     float64  `json:"saturated"`      // the largest share of a pool's servers at their limits, 0 to 1
}

// loadView is the load during a period.
type loadView struct {
	Requests          uint64  `json:"requests"`            // completed
	RequestsPerSecond float64 `json:"requests_per_second"` // on average
	FirstByteSeconds  float64 `json:"first_byte_seconds"`  // mean time until responses began; 0 if there was none
}

func loadOf(t limpet.Traffic) loadView { return loadView{t.Requests, t.Rate, t.FirstByte.Seconds()} }

func getHealth(c *call) (any, error) {
	in, h := c.vs.HealthInput(), c.vs.Health()
	return healthView{
		Score: h.Score, Color: h.Color(),
		Parts: []healthPart{
			{"performance", h.Performance, fmt.Sprintf("%d of %d requests failed, %d were slow; %d of %d servers are up", in.Failed, in.Requests, in.Slow, in.ServersUp, in.Servers)},
			{"resources", h.Resources, fmt.Sprintf("%d of %d servers are up; %.0f %% of the servers of the fullest pool are at their limits; %d requests found all scripts busy", in.ServersUp, in.Servers, 100*in.Saturated, in.Busy)},
			{"anomaly", h.Anomaly, fmt.Sprintf("%.3g requests/s in the last minute, %.3g before; first byte after %v, before %v", in.Recent.Rate, in.Before.Rate, in.Recent.FirstByte, in.Before.FirstByte)},
			{"security", h.Security, fmt.Sprintf("policies refused %d of %d", in.Drops, in.Requests+in.Connections)},
		},
		Input: healthInputView{
			in.Window.Seconds(), in.Requests, in.Connections, in.Drops, in.Failed, in.Slow, in.Busy,
			loadOf(in.Recent), loadOf(in.Before), in.Servers, in.ServersUp, in.Saturated,
		},
	}, nil
}
