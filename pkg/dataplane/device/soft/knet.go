// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A TUN's file holds the network namespace that it was opened in. If that were
// the pod's, the pod's namespace would live as long as the file. So a TUN is
// opened in the nursery, a namespace of the device's own, and moved to the
// pod from there; the namespace then dies when the pod does, and takes
// the interface with it.

// nursery is where TUNs are made.
type nursery struct {
	ns *os.File
	nl *netlink.Handle
}

func newNursery() (*nursery, error) {
	n := &nursery{}
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace for new interfaces: %w", err)
	}
	if n.nl, err = netlink.NewHandleAt(netns.NsHandle(n.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
		n.ns.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return n, nil
}

func (n *nursery) close() {
	n.nl.Close()
	n.ns.Close()
}

// knet is a TUN interface in place.
type knet struct {
	fd      int
	uso     bool
	ifindex int
	pinned  bool // the file holds the interface's network namespace
}

// ifAlias marks an interface as one of ours, for people and for adoption.
func ifAlias(instance string) string { return "netio " + instance }

// make creates a TUN interface, down and not yet persistent, in the network
// namespace ns, or in the caller's if ns is nil.
func (n *nursery) make(ifname string, mtu int, ns *os.File, instance string) (knet, error) {
	home := n
	if ns == nil {
		own, err := callersNetns()
		if err != nil {
			return knet{}, err
		}
		defer own.close()
		home = own
	}
	var k knet
	err := inNetns(home.ns, func() (err error) {
		k.fd, k.uso, err = openTUN(ifname)
		return err
	})
	if err != nil {
		return knet{}, err
	}
	if err := home.place(&k, ifname, mtu, ns, instance); err != nil {
		unix.Close(k.fd)
		return knet{}, err
	}
	return k, nil
}

// place sets the new interface up for its use and moves it to ns.
func (n *nursery) place(k *knet, ifname string, mtu int, ns *os.File, instance string) error {
	link, err := n.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", ifname, err)
	}
	if err := n.nl.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set MTU %d of %s: %w", mtu, ifname, err)
	}
	if err := n.nl.LinkSetTxQLen(link, txQueueLen); err != nil {
		return fmt.Errorf("set queue length of %s: %w", ifname, err)
	}
	if err := n.nl.LinkSetAlias(link, ifAlias(instance)); err != nil {
		return fmt.Errorf("set alias of %s: %w", ifname, err)
	}
	if ns == nil {
		k.ifindex = link.Attrs().Index
		return nil
	}
	if err := n.nl.LinkSetNsFd(link, int(ns.Fd())); err != nil {
		return fmt.Errorf("move %s to network namespace %s: %w", ifname, ns.Name(), err)
	}
	pod, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket in %s: %w", ns.Name(), err)
	}
	defer pod.Close()
	moved, err := pod.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("find interface %s in %s: %w", ifname, ns.Name(), err)
	}
	k.ifindex = moved.Attrs().Index
	return nil
}

// callersNetns is the process's own network namespace as a place for TUNs.
func callersNetns() (*nursery, error) {
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	nl, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &nursery{ns: f, nl: nl}, nil
}

// adopt attaches to the interface ifname that an instance of this name has
// left in the network namespace ns (nil: the caller's): addresses and
// routes on it stay. ok is false if there is none.
func adopt(ifname string, ns *os.File, instance string) (k knet, ok bool, err error) {
	own := ns == nil
	if own {
		if ns, err = os.Open("/proc/self/ns/net"); err != nil {
			return knet{}, false, fmt.Errorf("open own network namespace: %w", err)
		}
		defer ns.Close()
	}
	nl, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return knet{}, false, fmt.Errorf("netlink socket in %s: %w", ns.Name(), err)
	}
	defer nl.Close()
	link, err := nl.LinkByName(ifname)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return knet{}, false, nil
	}
	if err != nil {
		return knet{}, false, fmt.Errorf("find interface %s: %w", ifname, err)
	}
	if _, tun := link.(*netlink.Tuntap); !tun || link.Attrs().Alias != ifAlias(instance) {
		return knet{}, false, fmt.Errorf("interface %s in %s: %w", ifname, ns.Name(), os.ErrExist)
	}
	err = inNetns(ns, func() (err error) {
		k.fd, k.uso, err = openTUN(ifname)
		return err
	})
	if err != nil {
		return knet{}, false, fmt.Errorf("attach to the interface that is left: %w", err)
	}
	k.ifindex, k.pinned = link.Attrs().Index, !own
	return k, true, nil
}
