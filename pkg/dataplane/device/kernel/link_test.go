// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// attrs are the attributes of a message, or of one of them; nested ones are not
// taken apart.
func attrs(t *testing.T, b []byte) map[uint16]string {
	t.Helper()
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[uint16]string)
	for _, a := range list {
		if _, twice := m[a.Attr.Type]; twice {
			t.Errorf("attribute %d is there twice", a.Attr.Type)
		}
		m[a.Attr.Type] = string(a.Value)
	}
	return m
}

func u32(b string) int {
	if len(b) != 4 {
		return -1
	}
	return int(binary.NativeEndian.Uint32([]byte(b)))
}

func TestLinkRequest(t *testing.T) {
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	req := link{instance: "netio", name: "eth0", mtu: 1400, ns: ns, quota: 77, whole: true, label: "a\nb"}.request()
	b := req.Serialize()
	if req.Type != unix.RTM_NEWLINK || req.Flags != unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL || int(req.Len) != len(b) {
		t.Errorf("header %+v of %d bytes", req.NlMsghdr, len(b))
	}
	m := attrs(t, b[unix.SizeofNlMsghdr+unix.SizeofIfInfomsg:])
	if len(m) != 4 || m[unix.IFLA_IFNAME] != "eth0\x00" || u32(m[unix.IFLA_MTU]) != 1400 || u32(m[unix.IFLA_NET_NS_FD]) != int(ns.Fd()) {
		t.Errorf("attributes %v", m)
	}
	info := attrs(t, []byte(m[unix.IFLA_LINKINFO]))
	if len(info) != 2 || info[nl.IFLA_INFO_KIND] != "knet" {
		t.Errorf("link info %v", info)
	}
	data := attrs(t, []byte(info[nl.IFLA_INFO_DATA]))
	if len(data) != 4 || data[knetInstance] != "netio\x00" || u32(data[knetQuota]) != 77 || u32(data[knetFlags]) != 1 || data[knetLabel] != "a\nb\x00" {
		t.Errorf("knet %v", data)
	}

	// What is left out is the kernel's or the device's choice.
	b = link{instance: "i", mtu: 1500, label: "l"}.request().Serialize()
	m = attrs(t, b[unix.SizeofNlMsghdr+unix.SizeofIfInfomsg:])
	data = attrs(t, []byte(attrs(t, []byte(m[unix.IFLA_LINKINFO]))[nl.IFLA_INFO_DATA]))
	if len(m) != 2 || len(data) != 2 {
		t.Errorf("attributes %v, knet %v", m, data)
	}
}

func TestOpenNetns(t *testing.T) {
	if f, err := openNetns(""); f != nil || err != nil {
		t.Errorf("own: %v, %v", f, err)
	}
	f, err := openNetns("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, path := range []string{"/proc/self/stat", "/proc/self/ns/mnt", "/dev/null", "/run/netns/none"} {
		if f, err := openNetns(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
}

// TestAddLink asks the running kernel, which has no knets, and says so in words.
func TestAddLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: netlink")
	}
	if _, err := Available(""); err == nil {
		t.Skip("there is a kernel device")
	}
	k, err := newKernelControl(-1)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	for range 3 { // one socket serves many requests
		err := k.addLink(link{instance: "i", name: "netiotest0", mtu: 1500, label: "l"})
		if err == nil || !strings.Contains(err.Error(), unix.EOPNOTSUPP.Error()) {
			t.Errorf("error %v, want one with %q", err, unix.EOPNOTSUPP.Error())
		}
	}
	// An interface of that name is not changed.
	if err := k.addLink(link{instance: "i", name: "lo", mtu: 1500, label: "l"}); err == nil || !strings.Contains(err.Error(), unix.EEXIST.Error()) {
		t.Errorf("error %v, want one with %q", err, unix.EEXIST.Error())
	}
}

// TestRenameLink renames an interface of another network namespace: the loopback,
// which each one has, and which is down at first.
func TestRenameLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	made := make(chan *os.File, 1)
	go func() {
		defer close(made)
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		ns, err := openNetns("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		made <- ns
	}()
	ns, ok := <-made
	if !ok {
		return
	}
	defer ns.Close()
	k, err := newKernelControl(-1)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := k.renameLink(ns, 1, "eth0"); err != nil {
		t.Fatal(err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if link, err := h.LinkByName("eth0"); err != nil || link.Attrs().Index != 1 {
		t.Errorf("link %+v, %v", link, err)
	}
	if err := k.renameLink(ns, 99, "eth1"); err == nil {
		t.Error("an interface that is not there was renamed")
	}
}
