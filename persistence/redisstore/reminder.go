package redisstore

import "time"

// A reminder says when to log a lasting problem: at once, after a minute, after
// ten minutes, and then every hour. The zero value is that of no problem.
type reminder struct {
	next  time.Time
	pause time.Duration
}

// due reports whether to warn now.
func (r *reminder) due(now time.Time) bool {
	if now.Before(r.next) {
		return false
	}
	switch r.pause {
	case 0:
		r.pause = time.Minute
	case time.Minute:
		r.pause = 9 * time.Minute
	default:
		r.pause = time.Hour
	}
	r.next = now.Add(r.pause)
	return true
}
