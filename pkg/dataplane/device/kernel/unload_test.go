// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/devicetest"
)

var (
	moduleFlag = flag.String("module", "", "netio.ko, which is not loaded, for TestUnload")
	cyclesFlag = flag.Int("cycles", 50, "how often TestUnload loads and unloads it")
)

// TestUnload loads the module, uses it in all ways, and unloads it in the first
// moment in which that goes, again and again: nothing of it may run any more.
func TestUnload(t *testing.T) {
	if *moduleFlag == "" {
		t.Skip("no -module")
	}
	for n := range *cyclesFlag {
		load(t)
		t.Run(fmt.Sprint("brief", n), func(t *testing.T) {
			devicetest.Brief(t, harness(), func() { loaded(t, "packets flow") })
		})
		inUse(t)
		orphan(t)
		unload(t)
		if t.Failed() {
			t.Fatalf("in cycle %d", n)
		}
	}
}

func load(t *testing.T) {
	t.Helper()
	f, err := os.Open(*moduleFlag)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		t.Fatalf("load %s: %v", *moduleFlag, err)
	}
}

// loaded fails the test unless the module refuses to be unloaded.
func loaded(t *testing.T, while string) {
	t.Helper()
	if err := unix.DeleteModule("netio", unix.O_NONBLOCK); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("unload while %s: %v", while, err)
	}
}

// unload waits for the last user: network namespaces end by themselves, some time
// after they were left.
func unload(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		err := unix.DeleteModule("netio", unix.O_NONBLOCK)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EAGAIN) || time.Now().After(end) {
			users, _ := os.ReadFile("/sys/module/netio/refcnt")
			t.Fatalf("unload: %v; users: %s", err, users)
		}
	}
}

// inUse goes through the states in which a module is in use without traffic: open,
// attached, mapped alone, and with an instance that nobody owns.
func inUse(t *testing.T) {
	t.Helper()
	c := Config{Name: "in-use", Nbufs: 64}.withDefaults()
	fd, err := openDevice(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	loaded(t, "the device is open")
	a := c.attach()
	if err := attachTo(fd, &a); err != nil {
		t.Fatal(err)
	}
	m, err := mapArea(fd, a.AreaSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := ioctl(fd, iocDestroy, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	loaded(t, "the area of an instance that has ended is mapped")
	m.bytes()[a.AreaSize-1] = 1
	if err := m.close(); err != nil {
		t.Fatal(err)
	}

	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	loaded(t, "there is an instance")
	if d, err = Open(c); err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(); err != nil {
		t.Fatal(err)
	}
}

// orphan leaves an instance with a knet, that is up, to the end of its network
// namespace.
func orphan(t *testing.T) {
	t.Helper()
	inNetns(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		d, err := Open(Config{Name: "orphan", Nbufs: 64})
		if err != nil {
			return err
		}
		if _, err := d.AddPort(device.PortConfig{Name: "o", IfName: "o"}); err != nil {
			return errors.Join(err, d.Close())
		}
		return errors.Join(linkUp("o"), d.Close())
	})
}

// linkUp brings an interface of the thread's network namespace up.
func linkUp(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetUp(link)
}
