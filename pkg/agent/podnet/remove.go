// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/netnsid"
)

// Remove takes a pod's knet away, with its addresses and routes. What is gone already,
// also with its namespace, is no error, and an interface of that name that is no knet
// stays.
func Remove(path string, id netnsid.ID, ifname string) error {
	n, err := openSame(path, id)
	if errors.Is(err, ErrNoNetNS) {
		return nil
	}
	if err != nil {
		return err
	}
	defer n.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", path, err)
	}
	defer h.Close()
	link, err := h.LinkByName(ifname)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", ifname, path, err)
	}
	if t, ok := link.(*netlink.Tuntap); link.Type() != "knet" && (!ok || t.Mode != netlink.TUNTAP_MODE_TUN) {
		return nil
	}
	if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s from %s: %w", ifname, path, err)
	}
	return nil
}
