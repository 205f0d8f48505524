// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/attachment"
)

// ErrDiffers is returned where a pod's interface is not as it was made.
var ErrDiffers = errors.New("the pod's interface was changed")

// Check compares an attachment with what is in its namespace. The error has
// one line for each difference. Errors: ErrNoNetNS, ErrDiffers.
func Check(a *attachment.Attachment) error {
	n, err := openSame(a.NetNS, a.NetNSID)
	if err != nil {
		return err
	}
	defer n.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", a.NetNS, err)
	}
	defer h.Close()
	differs := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s in %s: %s", ErrDiffers, a.IfName, a.NetNS, fmt.Sprintf(format, args...))
	}
	link, err := h.LinkByName(a.IfName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return differs("it is gone")
	}
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", a.IfName, a.NetNS, err)
	}
	var errs []error
	attrs := link.Attrs()
	if attrs.Index != a.IfIndex {
		errs = append(errs, differs("it has index %d, expected %d: another interface has its name", attrs.Index, a.IfIndex))
	}
	if attrs.Flags&net.FlagUp == 0 {
		errs = append(errs, differs("it is down"))
	}
	if attrs.MTU != a.MTU {
		errs = append(errs, differs("its MTU is %d, expected %d", attrs.MTU, a.MTU))
	}
	has, err := addresses(h, link)
	if err != nil {
		return err
	}
	for _, want := range a.Addresses {
		if !has[netip.PrefixFrom(want, want.BitLen())] {
			errs = append(errs, differs("address %s is missing", want))
		}
	}
	for _, r := range a.Routes {
		there, err := hasRoute(h, attrs.Index, r)
		if err != nil {
			return err
		}
		if !there {
			errs = append(errs, differs("the route to %s is missing", r.Destination))
		}
	}
	return errors.Join(errs...)
}

// Interface is what there is of a pod's interface.
type Interface struct {
	// Index in its namespace, 0 if there is no interface.
	Index int
	// Blank: it is down and has none of the pod's addresses, as one that the
	// forwarder has just made. Index numbers may come again, so they do not tell.
	Blank bool
}

// Look looks at an attachment's interface. Errors: ErrNoNetNS.
func Look(a *attachment.Attachment) (Interface, error) {
	n, err := openSame(a.NetNS, a.NetNSID)
	if err != nil {
		return Interface{}, err
	}
	defer n.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return Interface{}, fmt.Errorf("open netlink in %s: %w", a.NetNS, err)
	}
	defer h.Close()
	link, err := h.LinkByName(a.IfName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return Interface{}, nil
	}
	if err != nil {
		return Interface{}, fmt.Errorf("find %s in %s: %w", a.IfName, a.NetNS, err)
	}
	has, err := addresses(h, link)
	if err != nil {
		return Interface{}, err
	}
	i := Interface{Index: link.Attrs().Index, Blank: link.Attrs().Flags&net.FlagUp == 0}
	for _, ip := range a.Addresses {
		i.Blank = i.Blank && !has[netip.PrefixFrom(ip, ip.BitLen())]
	}
	return i, nil
}

func addresses(h *netlink.Handle, link netlink.Link) (map[netip.Prefix]bool, error) {
	list, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	has := map[netip.Prefix]bool{}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ok {
			has[netip.PrefixFrom(ip.Unmap(), ones)] = true
		}
	}
	return has, nil
}
