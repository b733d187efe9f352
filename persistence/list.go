package persistence

// A list orders some slots of a shard from the oldest to the newest. The links
// between them are stored by slot, so that one list, or several without common
// slots, need no memory of their own. The zero list is empty.
type list struct {
	entries        int
	oldest, newest int32 // slots, of a list that is not empty
}

// A link names the slots before and after a slot in its list, -1 for none.
type link struct {
	older, newer int32
}

// push makes a slot that is in no list the newest of l.
func (l *list) push(links []link, slot int32) {
	if l.entries == 0 {
		l.oldest, l.newest = slot, -1
	} else {
		links[l.newest].newer = slot
	}
	links[slot] = link{older: l.newest, newer: -1}
	l.newest = slot
	l.entries++
}

// remove removes a slot from l.
func (l *list) remove(links []link, slot int32) {
	l.replace(links, slot, links[slot].newer, links[slot].older)
	l.entries--
}

// move gives the position of a slot in l to another slot, which is in no list.
func (l *list) move(links []link, from, to int32) {
	l.replace(links, from, to, to)
	links[to] = links[from]
}

// replace makes the neighbours of a slot, or the ends of l, name other slots
// instead: the older neighbour names newer, and the newer one older.
func (l *list) replace(links []link, slot, newer, older int32) {
	if at := links[slot]; at.older >= 0 {
		links[at.older].newer = newer
	} else {
		l.oldest = newer
	}
	if at := links[slot]; at.newer >= 0 {
		links[at.newer].older = older
	} else {
		l.newest = older
	}
}
