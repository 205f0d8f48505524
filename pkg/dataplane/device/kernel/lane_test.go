// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

func TestMapArea(t *testing.T) {
	fd, hdr := newArea(t, 3, 64)
	m, err := mapArea(fd, hdr.AreaSize)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	a, err := abi.OpenArea(m.bytes())
	if err != nil {
		t.Fatal(err)
	}
	a.NbufBytes(63)[abi.NbufSize-1] = 1
	a.PLane(2).DeadMS = 1
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	at := uint64(uintptr(m.base))
	for _, want := range []string{
		fmt.Sprintf("%x-%x r--s 00000000 ", at, at+hdr.PLaneOff),
		fmt.Sprintf("%x-%x rw-s %08x ", at+hdr.PLaneOff, at+hdr.AreaSize, hdr.PLaneOff),
	} {
		if !strings.Contains(string(maps), want) {
			t.Errorf("no %q in\n%s", want, maps)
		}
	}
}

func TestMapAreaErrors(t *testing.T) {
	fd, hdr := newArea(t, 1, 64)
	for _, size := range []uint64{0, hdr.PLaneOff, 1 << 63} {
		if _, err := mapArea(fd, size); !errors.Is(err, abi.ErrLayout) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := mapArea(fd, hdr.AreaSize); !errors.Is(err, abi.ErrLayout) {
		t.Errorf("no magic: %v", err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := mapArea(int(null.Fd()), hdr.AreaSize); err == nil {
		t.Error("/dev/null was mapped")
	}
}

func TestWait(t *testing.T) {
	k := newFakeKernel(t, 2, 64)
	d := newFake(t, k, eventfd)
	if err := d.Wait(0, time.Millisecond); err != nil {
		t.Error(err)
	}
	if err := d.Wait(0, 0); err != nil {
		t.Error(err)
	}
	if n := d.area.PLane(0).SleepSeq; n != 2 {
		t.Errorf("%d sleeps told to the device, want 2", n)
	}
	// Wake counts before and during a Wait, once.
	if err := d.Wake(0); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(0, -1); err != nil {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- d.Wait(0, -1) }()
	if err := d.Wake(0); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The device's wake-up is its descriptor's.
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	go func() { done <- d.Wait(1, -1) }()
	unix.Write(d.lanes[1].fd, one[:])
	if err := <-done; err != nil {
		t.Error(err)
	}
	unix.Read(d.lanes[1].fd, one[:])

	// An entry that is there ends it at once, in every pass of the ring.
	p := d.area.PLane(0)
	out := ring.NewWriter(k.area.InQ(0), k.hdr.InqOrder, &k.area.PLane(0).InqHead, &k.area.DLane(0).InqTail, 0)
	in := ring.NewReader(d.area.InQ(0), k.hdr.InqOrder, &p.InqHead, 0)
	l := d.lanes[0]
	var ents [1]uint32
	for i := range 3 << k.hdr.InqOrder {
		if l.ready() {
			t.Fatalf("ready at %d without an entry", i)
		}
		if out.Publish(ents[:]) != 1 || !l.ready() {
			t.Fatalf("not ready at %d", i)
		}
		if i%1000 == 0 {
			if err := d.Wait(0, -1); err != nil {
				t.Fatal(err)
			}
		}
		in.Take(ents[:])
		in.Release()
	}
}

// TestWaitError: poll reports an error, and KICK has to say which.
func TestWaitError(t *testing.T) {
	var peers []int
	d := newFake(t, newFakeKernel(t, 1, 64), func() int {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, p[1])
		return p[0]
	})
	unix.Close(peers[0])
	if err := d.Wait(0, -1); !errors.Is(err, unix.ENOTTY) || !strings.Contains(err.Error(), "kick lane 0") {
		t.Errorf("Wait: %v", err)
	}
}

func TestFailed(t *testing.T) {
	d := newFake(t, newFakeKernel(t, 1, 64), eventfd)
	if err := d.failed("kick lane 0", unix.EIO); !errors.Is(err, unix.EIO) || d.gone() != nil {
		t.Errorf("error %v, gone %v", err, d.gone())
	}
	if err := d.failed("kick lane 0", unix.EOWNERDEAD); !errors.Is(err, device.ErrNotOwner) || !errors.Is(d.gone(), device.ErrNotOwner) {
		t.Errorf("error %v, gone %v", err, d.gone())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Kick(0); !errors.Is(err, device.ErrClosed) {
		t.Errorf("Kick after Close: %v", err)
	}
	if err := d.Close(); !errors.Is(err, device.ErrClosed) {
		t.Errorf("Close twice: %v", err)
	}
}

// TestClose closes under all other calls: no call comes to a descriptor, or to
// memory, that is no longer the device's.
func TestClose(t *testing.T) {
	for range 50 {
		d := newFake(t, newFakeKernel(t, 3, 64), eventfd)
		var wg sync.WaitGroup
		until := func(call func() error) {
			wg.Go(func() {
				for {
					switch err := call(); {
					case errors.Is(err, device.ErrClosed):
						return
					case err != nil && !errors.Is(err, unix.ENOTTY): // of an eventfd that is kicked
						t.Error(err)
						return
					}
				}
			})
		}
		for lane := range 3 {
			until(func() error { return d.Kick(lane) })
			until(func() error { return d.Wait(lane, -1) })
			until(func() error { return d.Wake(lane) })
		}
		until(func() error { _, err := d.Ports(); return err })
		until(func() error {
			p, err := d.AddPort(device.PortConfig{Name: "a", IfName: "eth0"})
			if err == nil {
				err = d.RemovePort(p.ID)
			}
			return err
		})
		asleep := make(chan error)
		go func() { asleep <- d.Wait(0, -1) }()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := <-asleep; err != nil && !errors.Is(err, device.ErrClosed) {
			t.Error(err)
		}
	}
}
