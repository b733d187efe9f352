// Package handover lets another process take the place of this one, without
// losing a connection: its [Predecessor] passes its sockets, and messages about
// what it knows, to its [Successor] over a socket between the two.
//
//	predecessor                     successor
//	sockets, names; messages   →    opens the sockets, reads its configuration
//	                           ←    ready
//	stops accepting; messages, go → accepts
//	                           ←    accepting
//	main                       →    is the one that the service manager knows
//	messages, until it ends    →
//	                           ←    each is applied
//	                           ←    stop, when it is asked to end
//
// The socket carries frames: the length of the payload in 4 bytes, the kind in
// one, and the payload, of 64 MiB at most. The first one has the version.
package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// version is that of the frames and of the messages. A successor of another
// version refuses, and its predecessor goes on.
const version = 2

// variable is where a successor finds the number of the descriptor of its
// socket. Sockets of listeners have the numbers after it.
const variable = "LIMPET_HANDOVER_FD"

// maxPayload bounds a frame.
const maxPayload = 64 << 20

// The kinds of frames.
const (
	frameHello     = iota + 1 // of the predecessor: greeting, as JSON
	frameMessage              // of the predecessor
	frameSynced               // of the predecessor: the messages until now are all there is
	frameReady                // of the successor
	frameGo                   // of the predecessor
	frameAccepting            // of the successor
	frameFailed               // of the successor: why, as text
	frameApplied              // of the successor, for each message after frameSynced
	frameMain                 // of the predecessor: one byte, not 0 if a reload was asked for meanwhile
	frameStop                 // of the successor
)

// greeting is the first frame.
type greeting struct {
	Version int
	Sockets []place // in the order of their descriptors
}

// place says what a socket is for.
type place struct{ Network, Address string }

// A Socket is one of a listener.
type Socket struct {
	// Network is that of the address.
	Network string
	// Address is by what the successor asks for it.
	Address string
	// File is a handle of it.
	File *os.File
}

// A frame is what is read.
type frame struct {
	kind    byte
	payload []byte
}

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("a message of %d bytes, more than %d", len(payload), maxPayload)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 5+len(payload)), uint32(len(payload)))
	_, err := w.Write(append(append(b, kind), payload...))
	return err
}

// readFrame reads a frame. Its memory is bounded by the bytes it has read.
func readFrame(r io.Reader) (frame, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxPayload {
		return frame{}, fmt.Errorf("a message of %d bytes, more than %d", n, maxPayload)
	}
	payload, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(payload) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return frame{head[4], payload}, err
}

// errVersion says that two processes cannot talk to one another.
func errVersion(theirs int) error {
	return fmt.Errorf("version %d of the handover, not %d", theirs, version)
}

// errUnexpected is about a frame that has no meaning at its time.
var errUnexpected = errors.New("unexpected message")
