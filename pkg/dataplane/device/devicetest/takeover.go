// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// The environment of a child process: what Instance.Export gave, and the ports to
// forward between.
const (
	childWord  = "NETIO_DEVICETEST_WORD"
	childFiles = "NETIO_DEVICETEST_FILES"
	childPairs = "NETIO_DEVICETEST_PAIRS"
)

// runChild forwards until it is killed, if this process is a child.
func runChild(h Harness) {
	pairs, ok := os.LookupEnv(childPairs)
	if !ok {
		return
	}
	n, _ := strconv.Atoi(os.Getenv(childFiles))
	var files []*os.File
	for i := range n {
		files = append(files, os.NewFile(uintptr(3+i), "instance"))
	}
	dev, err := h.Child(os.Getenv(childWord), files)
	if err != nil {
		fmt.Println("attach:", err)
		os.Exit(1)
	}
	var list [][2]uint32
	for _, s := range strings.Fields(pairs) {
		var p [2]uint32
		fmt.Sscanf(s, "%d-%d", &p[0], &p[1])
		list = append(list, p)
	}
	f := startForwarder(dev, list...)
	fmt.Println("forwarding")
	err = <-f.errs
	fmt.Println("forwarder:", err)
	os.Exit(2)
}

// child is a process that owns the instance.
type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startChild(t testing.TB, inst Instance, pairs ...[2]uint32) *child {
	t.Helper()
	word, files, err := inst.Export()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var list strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&list, "%d-%d ", p[0], p[1])
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+name+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), childPairs+"="+list.String(), childWord+"="+word, childFiles+"="+strconv.Itoa(len(files)))
	cmd.ExtraFiles, cmd.Stderr = files, os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, bufio.NewScanner(pipe)}
	t.Cleanup(c.kill)
	if !c.out.Scan() || c.out.Text() != "forwarding" {
		t.Fatalf("child says %q", c.out.Text())
	}
	return c
}

// kill ends the child by SIGKILL and waits for it.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// testTakeOver attaches while the owner lives: it is told, and the new one goes on
// with ports, packets on the rings, and all nbufs.
func testTakeOver(t *testing.T, h Harness) {
	inst := h.Create(t, Config{Nbufs: 256})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	first := attach(t, inst)
	a, b := newPod(t, first, 1, device.PortConfig{MTU: 9000, Quota: 40}), newPod(t, first, 2, device.PortConfig{MTU: 9000})
	w := newWorker(t, first, 0)
	ports, err := first.Ports()
	if err != nil {
		t.Fatal(err)
	}
	from, to := a.udp(a.v4, 0), b.udp(b.v4, 2000)
	for i := range 9 {
		send(t, from, b.v4, 2000, fmt.Append(pattern(i*1000, 1), i))
	}
	w.kick()
	d := w.area.DLane(0)
	w.await("9 packets", func() bool { return d.RxPackets == 9 })
	if len(w.got) != 9 {
		t.Fatalf("%d packets, want 9", len(w.got))
	}
	epoch := w.area.Live().Epoch
	// Of those read, two are on the OutQ, the others in hand. More come, unread.
	for _, p := range w.got[:2] {
		w.area.Nbuf(p.nbufs[0]).EPort = b.id()
		w.put(abi.Entry(abi.OutTX, p.nbufs[0]))
	}
	for i := range 5 {
		send(t, from, b.v4, 2000, fmt.Append(nil, "unread ", i))
	}
	// One sleeps in Wait while it loses the instance.
	asleep := make(chan error, 1)
	go func() {
		for {
			if err := first.Wait(0, -1); err != nil {
				asleep <- err
				return
			}
		}
	}()

	second := attach(t, inst)
	defer shut(t, second)
	if err := first.Kick(0); !errors.Is(err, device.ErrNotOwner) {
		t.Errorf("Kick of the former owner: %v", err)
	}
	if err := <-asleep; !errors.Is(err, device.ErrNotOwner) {
		t.Errorf("Wait of the former owner: %v", err)
	}
	if _, err := first.AddPort(device.PortConfig{Name: "z", IfName: "z"}); !errors.Is(err, device.ErrNotOwner) {
		t.Errorf("AddPort of the former owner: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("Close of the former owner: %v", err)
	}
	if e := second.Area().Live().Epoch; e <= epoch {
		t.Errorf("epoch %d after %d", e, epoch)
	}
	now, err := second.Ports()
	if err != nil || fmt.Sprint(upless(now)) != fmt.Sprint(upless(ports)) {
		t.Errorf("ports %+v, %v; before %+v", now, err, ports)
	}
	w = newWorker(t, second, 0)
	// The two on the OutQ are sent, the seven in hand reclaimed, unread ones wait.
	w.turn()
	for i := range 2 {
		if got := receive(t, to); got[len(got)-1] != '0'+byte(i) {
			t.Errorf("received %d bytes, want packet %d", len(got), i)
		}
	}
	for i := range 5 {
		rx := w.next(abi.InRX)
		if got := string(w.data(rx)[28:]); got != fmt.Sprint("unread ", i) {
			t.Errorf("read %q", got)
		}
		w.free(rx)
	}
	if n := w.area.DLane(0).Reclaimed; n != 7 {
		t.Errorf("%d nbufs reclaimed, want 7", n)
	}
	w.settle()
	for _, p := range []*pod{a, b} {
		p.dev = second
	}
}

// testTakeOverFromLiar takes over from a process that handed in what it had not
// read, so that nbufs came again: each is in one place for the next owner.
func testTakeOverFromLiar(t *testing.T, h Harness) {
	inst := h.Create(t, Config{Nbufs: 64})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	first := attach(t, inst)
	w := newWorker(t, first, 0)
	d := w.area.DLane(0)
	count := w.area.NbufCount()
	tail := func() uint32 { return atomic.LoadUint32(&d.InqTail) }
	from := tail()
	for round := range uint32(3) {
		w.put(abi.Entry(abi.OutWant, count))
		w.kick()
		for end := time.Now().Add(patience); tail()-from < (round+1)*count; {
			if time.Now().After(end) {
				t.Fatalf("%d entries on the InQ, want %d", tail()-from, (round+1)*count)
			}
			w.kick()
		}
		if round == 2 {
			break
		}
		for i := range count {
			w.put(abi.Entry(abi.OutFree, i))
		}
		w.kick()
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := attach(t, inst)
	defer shut(t, second)
	newWorker(t, second, 0).settle()
}

func upless(ports []device.PortInfo) []device.PortInfo {
	var list []device.PortInfo
	for _, p := range ports {
		p.Up = false
		list = append(list, p)
	}
	return list
}

// testOwnerDeath kills forwarders in the middle of transfers, which go on with the
// next one.
func testOwnerDeath(t *testing.T, h Harness) {
	if h.Child == nil {
		t.Skip("the harness has no child processes")
	}
	inst := h.Create(t, Config{Lanes: 2})
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	dev := attach(t, inst)
	a, b := newPod(t, dev, 1, device.PortConfig{}), newPod(t, dev, 2, device.PortConfig{})
	pair := [2]uint32{a.id(), b.id()}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	c := startChild(t, inst, pair)
	var many []*transfer
	for i := range 4 {
		many = append(many, startTransfer(t, a, b, b.v4, endless, uint64(i)), startTransfer(t, b, a, a.v4, endless, uint64(i)))
	}
	progress := func(by int64) {
		t.Helper()
		sum := func() (n int64) {
			for _, tr := range many {
				n += tr.got.Load()
			}
			return n
		}
		goal := sum() + by
		for end := time.Now().Add(2 * patience); sum() < goal; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatalf("transfers stand at %d bytes, %d to go", sum(), goal-sum())
			}
		}
	}
	for i := range cmp.Or(h.Kills, 10) {
		progress(int64(1+i%10) << 20)
		c.kill()
		c = startChild(t, inst, pair)
	}
	for _, tr := range many {
		tr.stop.Store(true)
	}
	for _, tr := range many {
		tr.wait(t)
	}
	c.kill()
	dev = attach(t, inst)
	defer shut(t, dev)
	for lane := range 2 {
		if n := dev.Area().DLane(lane).BadEntry; n != 0 {
			t.Errorf("lane %d: %d bad entries", lane, n)
		}
	}
	settleAll(t, newWorkers(t, dev))
}
