package redisstore

import "time"

// A reminder tells when to warn of a trouble that lasts: at once, after a minute, after ten minutes, and then every hour. The zero value
// knows of no trouble.
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
