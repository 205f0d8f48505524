// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device"
)

// One process owns an instance: it holds a lock on the state's file, through an
// open file of its own, so that the lock ends with the process and not with
// the keeper's copies. Who wants the instance writes to the owner's eventfd,
// and the owner stands down between two Kicks.

// ErrBusy is returned by Attach if the present owner lives but does not stand
// down, as when it is stopped.
var ErrBusy = errors.New("the owner of the instance does not stand down")

// standDownTime is how long Attach waits for a living owner.
const standDownTime = 5 * time.Second

type ownership struct {
	lock  *os.File // an open file of the state of its own
	event *os.File // readable when another process wants the instance
	fd    int      // event's
}

// own takes the instance whose state is in stateFD, from a living owner if need
// be. eventFD is its owner's eventfd, which is consumed.
func own(stateFD int, eventFD int) (*ownership, error) {
	lock, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", stateFD))
	if err != nil {
		unix.Close(eventFD)
		return nil, fmt.Errorf("open the state's lock (is /proc mounted?): %w", err)
	}
	// The runtime's poller waits for this one.
	o := &ownership{lock: lock, event: os.NewFile(uintptr(eventFD), "owner"), fd: eventFD}
	if err := o.take(); err != nil {
		o.release()
		return nil, err
	}
	return o, nil
}

func (o *ownership) take() error {
	deadline := time.Now().Add(standDownTime)
	for asked := false; ; asked = true {
		err := unix.Flock(int(o.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock the state: %w", err)
		}
		if !asked {
			var one [8]byte
			binary.NativeEndian.PutUint64(one[:], 1)
			if _, err := o.event.Write(one[:]); err != nil {
				return fmt.Errorf("ask the owner to stand down: %w", err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w within %v: end its process first", ErrBusy, standDownTime)
		}
		time.Sleep(time.Millisecond)
	}
	// A request that nobody has read was meant for the owner before.
	var buf [8]byte
	unix.Read(o.fd, buf[:])
	return nil
}

// release lets the next owner in.
func (o *ownership) release() {
	o.event.Close()
	unix.Flock(int(o.lock.Fd()), unix.LOCK_UN)
	o.lock.Close()
}

// serve stands the device down when another process asks for it.
func (o *ownership) serve(d *Device) {
	var buf [8]byte
	if _, err := o.event.Read(buf[:]); err != nil {
		return // closed
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.end(device.ErrNotOwner) {
		unix.Flock(int(o.lock.Fd()), unix.LOCK_UN)
	}
}

func newOwnerEvent() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("create eventfd: %w", err)
	}
	return fd, nil
}
