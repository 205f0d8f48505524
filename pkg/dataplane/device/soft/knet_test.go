// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// testNetns makes a network namespace; remove ends its name.
func testNetns(t *testing.T, name string) (path string, nl *netlink.Handle, remove func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces and interfaces")
	}
	name = fmt.Sprintf("netio-soft-%d-%s", os.Getpid(), name)
	var h netns.NsHandle
	err := onThread(func() (err error) {
		h, err = netns.NewNamed(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if nl, err = netlink.NewHandleAt(h, unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	h.Close()
	gone := false
	remove = func() {
		if !gone {
			gone = true
			nl.Close()
			netns.DeleteNamed(name)
		}
	}
	t.Cleanup(remove)
	return "/run/netns/" + name, nl, remove
}

func testName(t *testing.T) string { return fmt.Sprintf("t%d", os.Getpid()) }

// TestAdopt ends device and keeper: the interface stays, with what the pod has
// configured on it, and the next instance of the name takes it up.
func TestAdopt(t *testing.T) {
	path, nl, remove := testNetns(t, "a")
	name := testName(t)
	cfg := device.PortConfig{Name: "a", IfName: "eth0", NetNS: path, MTU: 1400}
	d := testDevice(t, Config{Name: name})
	first, err := d.AddPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	link, err := nl.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr("10.88.0.1/24")
	if err := errors.Join(nl.AddrAdd(link, addr), nl.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// Not that of another instance, nor any interface.
	other := testDevice(t, Config{Name: name + "x"})
	if _, err := other.AddPort(cfg); !errors.Is(err, os.ErrExist) {
		t.Errorf("another instance's interface: %v", err)
	}
	d = testDevice(t, Config{Name: name})
	lo := cfg
	lo.IfName = "lo"
	if _, err := d.AddPort(lo); !errors.Is(err, os.ErrExist) {
		t.Errorf("the loopback interface: %v", err)
	}
	again, err := d.AddPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if again.IfIndex != first.IfIndex || !again.Up {
		t.Errorf("port %+v, was %+v", again, first)
	}
	if list, err := nl.AddrList(link, netlink.FAMILY_V4); err != nil || len(list) != 1 {
		t.Errorf("addresses %v, %v", list, err)
	}

	// Its file holds the namespace now. The end of the path ends the port.
	remove()
	w := drive(t, d, 0)
	for end := time.Now().Add(20 * time.Second); d.area.Port(uint32(again.ID)).State&abi.PortUp != 0; w.turn() {
		if time.Now().After(end) {
			t.Fatal("the port of a namespace without a name stays up")
		}
	}
	if err := d.RemovePort(again.ID); err != nil {
		t.Error(err)
	}
}

// TestNothingLeft adds and removes ports and counts what there is before and after.
func TestNothingLeft(t *testing.T) {
	path, nl, _ := testNetns(t, "n")
	s := NewStore()
	defer s.Close()
	d, err := New(Config{Name: testName(t)}, testConn(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	round := func() {
		var ids []device.PortID
		for i := range 5 {
			c := device.PortConfig{Name: fmt.Sprint("p", i), IfName: fmt.Sprint("e", i), NetNS: path}
			if i == 4 {
				c.NetNS, c.IfName = "", fmt.Sprintf("nio%dx", os.Getpid())
			}
			p, err := d.AddPort(c)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, p.ID)
			if _, err := d.AddPort(c); !errors.Is(err, device.ErrPortExists) {
				t.Fatalf("added twice: %v", err)
			}
			c.Name = "other"
			if _, err := d.AddPort(c); err == nil {
				t.Fatal("an interface name was used twice")
			}
		}
		for _, id := range ids {
			if err := d.RemovePort(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() (files, links, host int) {
		inside, err := nl.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := net.InterfaceByName(fmt.Sprintf("nio%dx", os.Getpid())); err == nil {
			host++
		}
		return openFiles(t), len(inside), host
	}
	round() // the nursery is made with the first port
	files, links, host := count()
	for range 4 {
		round()
	}
	if f, l, h := count(); f != files || l != links || h != host || host != 0 {
		t.Errorf("%d files, %d and %d interfaces; before %d, %d and %d", f, l, h, files, links, host)
	}
	if names := s.Names(); len(names) != 3 {
		t.Errorf("the keeper holds %v", names)
	}
	if err := d.Destroy(); err != nil {
		t.Error(err)
	}
	if names := s.Names(); len(names) != 0 {
		t.Errorf("the keeper holds %v after the end of the instance", names)
	}
}

// TestHalfAdded takes over from owners that died in the middle of adding and of
// removing a port.
func TestHalfAdded(t *testing.T) {
	for _, phase := range []uint32{phaseAdding, phaseRemoving} {
		path, nl, _ := testNetns(t, fmt.Sprint("h", phase))
		s := NewStore()
		defer s.Close()
		k := testConn(t, s)
		d, err := New(Config{Name: testName(t)}, k)
		if err != nil {
			t.Fatal(err)
		}
		good, err := d.AddPort(device.PortConfig{Name: "good", IfName: "e0", NetNS: path})
		if err != nil {
			t.Fatal(err)
		}
		half, err := d.AddPort(device.PortConfig{Name: "half", IfName: "e1", NetNS: path})
		if err != nil {
			t.Fatal(err)
		}
		d.st.ports[half.ID].phase = phase
		if err := k.Put("port.4711", int(os.Stdin.Fd())); err != nil { // of no port
			t.Fatal(err)
		}
		d.Close()

		files, err := k.Files()
		if err != nil {
			t.Fatal(err)
		}
		if d, err = Attach(files, k); err != nil {
			t.Fatal(err)
		}
		if ports, err := d.Ports(); err != nil || len(ports) != 1 || ports[0] != good {
			t.Errorf("ports %+v, %v, want %+v", ports, err, good)
		}
		if _, err := nl.LinkByName("e1"); !errors.As(err, &netlink.LinkNotFoundError{}) {
			t.Errorf("the interface of a port half there: %v", err)
		}
		if names := fmt.Sprint(s.Names()); names != "[area owner port.1 state]" {
			t.Errorf("the keeper holds %v", names)
		}
		if _, err := d.AddPort(device.PortConfig{Name: "half", IfName: "e1", NetNS: path}); err != nil {
			t.Error(err)
		}
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	}
}

// TestLostFile takes over with a port whose TUN the keeper has lost: it is found by
// its name.
func TestLostFile(t *testing.T) {
	path, _, _ := testNetns(t, "l")
	s := NewStore()
	defer s.Close()
	k := testConn(t, s)
	d, err := New(Config{Name: testName(t)}, k)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.AddPort(device.PortConfig{Name: "p", IfName: "e0", NetNS: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Drop(portFile(uint32(p.ID))); err != nil {
		t.Fatal(err)
	}
	d.Close()
	files, err := k.Files()
	if err != nil {
		t.Fatal(err)
	}
	if d, err = Attach(files, k); err != nil {
		t.Fatal(err)
	}
	if ports, err := d.Ports(); err != nil || len(ports) != 1 || ports[0] != p {
		t.Errorf("ports %+v, %v, want %+v", ports, err, p)
	}
	if names := fmt.Sprint(s.Names()); names != "[area owner port.1 state]" {
		t.Errorf("the keeper holds %v", names)
	}
	if err := d.Destroy(); err != nil {
		t.Error(err)
	}
}

func TestAttachErrors(t *testing.T) {
	files := func(drop string) []NamedFile {
		s := NewStore()
		defer s.Close()
		k := testConn(t, s)
		defer k.Close()
		d, err := New(Config{Nbufs: 16, Ports: 4, ParkedSlots: 1}, k)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := k.Drop(drop); err != nil {
			t.Fatal(err)
		}
		list, err := k.Files()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := openFiles(t)
	for _, missing := range []string{areaFile, stateFile, ownerFile} {
		if _, err := Attach(files(missing), nil); !errors.Is(err, ErrState) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	swapped := files("")
	for i := range swapped {
		switch swapped[i].Name {
		case areaFile:
			swapped[i].Name = stateFile
		case stateFile:
			swapped[i].Name = areaFile
		}
	}
	if _, err := Attach(swapped, nil); !errors.Is(err, ErrState) {
		t.Errorf("area and state exchanged: %v", err)
	}
	plain := files("")
	f, err := os.Create(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(1 << 20)
	for i := range plain {
		if plain[i].Name == stateFile {
			unix.Dup3(int(f.Fd()), plain[i].FD, unix.O_CLOEXEC)
		}
	}
	f.Close()
	if _, err := Attach(plain, nil); err == nil {
		t.Error("a plain file was taken for a state")
	}
	if _, err := Attach(nil, nil); !errors.Is(err, ErrState) {
		t.Errorf("nothing: %v", err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d open files, before %d", after, before)
	}
}
