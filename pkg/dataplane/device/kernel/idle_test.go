// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device"
)

// TestEndIdle: an instance is ended once nobody owns it, with the interfaces that it has in
// its own network namespace, and not while there is one in a pod's.
func TestEndIdle(t *testing.T) {
	needDevice(t)
	c := Config{Name: fmt.Sprintf("idle-%d", os.Getpid()), Nbufs: 64}
	end := func(want bool) {
		t.Helper()
		if ended, err := EndIdle("", c.Name); ended != want || err != nil {
			t.Errorf("ended %v, %v; expected %v", ended, err, want)
		}
	}
	end(false) // there is none
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddPort(device.PortConfig{Name: "host", IfName: "idle0"}); err != nil {
		t.Fatal(err)
	}
	end(false) // it has an owner
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// A pod's interface, with the index of one of ours.
	hold, pod := make(chan struct{}), make(chan string)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		inNetns(t, func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				close(pod)
				return err
			}
			pod <- fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			<-hold
			return nil
		})
	}()
	ns := <-pod
	if d, err = Open(c); err != nil {
		t.Fatal(err)
	}
	inPod, err := d.AddPort(device.PortConfig{Name: "pod", IfName: "eth0", NetNS: ns})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	end(false)
	if d, err = Open(c); err != nil {
		t.Fatal(err)
	}
	if err := d.RemovePort(inPod.ID); err != nil {
		t.Fatal(err)
	}
	close(hold)
	<-ended
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	end(true)
	end(false) // there is none any more
	if _, err := netlink.LinkByName("idle0"); err == nil {
		t.Error("its interface is there still")
	}
}

// TestEndIdleNoDevice tells what is wrong, as Open does.
func TestEndIdleNoDevice(t *testing.T) {
	if _, err := EndIdle("/none/netio", "x"); err == nil || !strings.Contains(err.Error(), "no /none/netio") {
		t.Errorf("error %v", err)
	}
	if _, err := EndIdle("", ""); err == nil || !strings.Contains(err.Error(), "want 1 to") {
		t.Errorf("error %v", err)
	}
}
