// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// link is a knet to be made: one RTM_NEWLINK creates it where it belongs.
type link struct {
	instance string
	name     string // "": the kernel chooses knet0, knet1, ...
	mtu      int
	ns       *os.File // nil: the network namespace of the netlink socket
	quota    int      // nbufs, 0: the device's default
	whole    bool
	label    string
}

// request is the netlink message. NLM_F_EXCL keeps it from changing an
// interface that there is.
func (l link) request() *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	if l.name != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.name)))
	}
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.mtu))))
	if l.ns != nil {
		req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(l.ns.Fd()))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(knetKind))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(knetInstance, nl.ZeroTerminated(l.instance))
	if l.quota != 0 {
		data.AddRtAttr(knetQuota, nl.Uint32Attr(uint32(l.quota)))
	}
	if l.whole {
		data.AddRtAttr(knetFlags, nl.Uint32Attr(abi.PortFlagWhole))
	}
	data.AddRtAttr(knetLabel, nl.ZeroTerminated(l.label))
	req.AddData(info)
	return req
}

// openNetns opens a network namespace; nil for the caller's own, "".
func openNetns(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	// ioctl_ns(2), _IO(0xb7, 3); any other file answers ENOTTY.
	const nsGetNSType = 0xb703
	if kind, err := unix.IoctlRetInt(int(f.Fd()), nsGetNSType); err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("%s is no network namespace", path)
	}
	return f, nil
}
