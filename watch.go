package limpet

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Watch makes the virtual service call f with the record of each request at its
// end, and of each denied connection, until stop is called; calls that are
// under way then go on. With significant, f gets only records that are
// significant, and other requests cost next to nothing. Watchers are called
// besides [Config].OnComplete and stay when the configuration is updated.
//
// f is called in the goroutine that served the request, and must not block.
// Calls may be concurrent. Each call has a record of its own, whose slices must
// not be changed.
func (vs *VirtualService) Watch(significant bool, f func(*Record)) (stop func()) {
	w := &f
	vs.watchers.edit(func(list *watcherLists) {
		if significant {
			list.significant = append(slices.Clip(list.significant), w)
		} else {
			list.all = append(slices.Clip(list.all), w)
		}
	})
	return func() {
		vs.watchers.edit(func(list *watcherLists) {
			list.all, list.significant = without(list.all, w), without(list.significant, w)
		})
	}
}

// watchers are the functions that get records. Requests read the lists without
// a lock.
type watchers struct {
	mu    sync.Mutex // for edit
	lists atomic.Pointer[watcherLists]
}

// watcherLists are the lists of watchers. They are replaced, never changed.
type watcherLists struct{ all, significant []*func(*Record) }

func without(list []*func(*Record), w *func(*Record)) []*func(*Record) {
	return slices.DeleteFunc(slices.Clone(list), func(other *func(*Record)) bool { return other == w })
}

func (w *watchers) edit(f func(*watcherLists)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lists := w.now()
	f(&lists)
	w.lists.Store(&lists)
}

// now returns the present lists.
func (w *watchers) now() watcherLists {
	if lists := w.lists.Load(); lists != nil {
		return *lists
	}
	return watcherLists{}
}

// emit hands a record to those who want it. tx is the request's transaction;
// nil for a connection. The record belongs to the transaction, which is used
// again, so that each watcher gets a copy.
func (w *watchers) emit(r *Record, tx *transaction) {
	lists := w.now()
	if len(r.Significant) == 0 {
		lists.significant = nil
	}
	if len(lists.all) == 0 && len(lists.significant) == 0 {
		return
	}
	tx.describeLate()
	for _, list := range [...][]*func(*Record){lists.all, lists.significant} {
		for _, f := range list {
			record := *r
			(*f)(&record)
		}
	}
}
