package policy

import (
	"errors"
	"net/http"
)

// ending is how a rule decides about a request.
type ending struct {
	action   Action
	page     Respond // of the reply, compiled; its status is 0 if there is none
	location string  // of a redirect
	limited  bool    // a rate limit was exceeded
}

// endingOf is for actions that are the same for every request.
func endingOf(action any) ending {
	switch a := action.(type) {
	case Close:
		if a.Reset {
			return ending{action: ActionReset}
		}
		return ending{action: ActionClose}
	case Respond:
		return ending{action: ActionRespond, page: a}
	case Report:
		return ending{action: ActionReport}
	}
	return ending{action: ActionAllow}
}

// ending returns how the limit ends a request above it. If a redirect cannot be
// made, the request is answered with 429, since it must not pass.
func (l *compiledLimit) ending(s *subjects) ending {
	end := endingOf(l.exceeded)
	if r, ok := l.exceeded.(*compiledRedirect); ok {
		location, err := r.location(s)
		end = ending{action: ActionRedirect, page: r.page, location: location}
		if err != nil {
			end = endingOf(tooManyRequests)
		}
	}
	end.limited = true
	return end
}

var tooManyRequests = builtinPage(http.StatusTooManyRequests)

// end acts on tx and completes the verdict.
func (v *Verdict) end(tx Transaction, e *ending) {
	v.Action, v.Status, v.Limited = e.action, e.page.Status, e.limited
	v.Ended = e.action != ActionAllow
	v.Dropped = dropped(e.action, v.Status)
	switch e.action {
	case ActionClose, ActionReset:
		tx.Close(e.action == ActionReset)
	case ActionRespond, ActionRedirect, ActionFail:
		h := make(http.Header)
		if e.page.ContentType != "" {
			h.Set("Content-Type", e.page.ContentType)
		}
		if e.location != "" {
			h.Set("Location", e.location)
		}
		tx.Reply(e.page.Status, h, e.page.Body)
	}
}

// fail completes the verdict of a rule that could not be evaluated, and answers
// the request unless it may go on.
func (v *Verdict) fail(tx Transaction, err error, failOpen bool) {
	v.Err = &RuleError{Rule: v.Rule, Index: v.Index, Err: err}
	if status, ended := failureStatus(err, failOpen); ended {
		v.end(tx, &ending{action: ActionFail, page: builtinPage(status)})
	}
}

// failureStatus returns the status that answers a request whose rule failed;
// false if the request goes on. A request that cannot be judged never goes on,
// since clients could choose to send one.
func failureStatus(err error, failOpen bool) (status int, ended bool) {
	switch {
	case errors.Is(err, errPathNUL):
		return http.StatusBadRequest, true
	case errors.Is(err, errURITooLong):
		return http.StatusRequestURITooLong, true
	case errors.Is(err, errFieldTooLong):
		return http.StatusRequestHeaderFieldsTooLarge, true
	case errors.Is(err, errResponseTooLong):
		return http.StatusBadGateway, true
	}
	return http.StatusInternalServerError, !failOpen
}
