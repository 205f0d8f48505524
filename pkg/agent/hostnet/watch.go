// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// nftablesGroup is NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const nftablesGroup = 7

// rtmProtocol is the place of rtm_protocol in struct rtmsg (rtnetlink(7)).
const rtmProtocol = 5

// subscriptions are the multicast groups that tell of changes.
var subscriptions = []struct {
	protocol int
	groups   []uint
}{
	{unix.NETLINK_ROUTE, []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}},
	{unix.NETLINK_NETFILTER, []uint{nftablesGroup}},
}

// watch calls changed after each change of the host's network until ctx ends.
// What changed does not matter: the pass that follows compares everything.
func (h *Host) watch(ctx context.Context, changed func()) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, s := range subscriptions {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := h.listen(ctx, s.protocol, s.groups, changed); err != nil && ctx.Err() == nil {
					slog.Warn("cannot follow changes of the host's network; looking every 30 s", "protocol", s.protocol, "error", err)
					select {
					case <-ctx.Done():
					case <-time.After(period):
					}
				}
			}
		})
	}
}

func (h *Host) listen(ctx context.Context, protocol int, groups []uint, changed func()) error {
	at := netns.None()
	if h.NetNS != "" {
		n, err := netns.GetFromPath(h.NetNS)
		if err != nil {
			return err
		}
		defer n.Close()
		at = n
	}
	socket, err := nl.SubscribeAt(at, netns.None(), protocol, groups...)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, socket.Close)
	defer stop()
	changed() // what was missed before
	for {
		msgs, _, err := socket.Receive()
		if errors.Is(err, unix.ENOBUFS) { // some were lost
			changed()
			continue
		}
		if err != nil {
			socket.Close()
			return err
		}
		if slices.ContainsFunc(msgs, h.concerns) {
			changed()
		}
	}
}

// concerns tells whether a message may be of something that a pass compares.
// Routes of others by other interfaces are not: a router's tables change all the
// time.
func (h *Host) concerns(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
		return m.Header.Type != unix.NLMSG_DONE
	}
	if len(m.Data) < unix.SizeofRtMsg {
		return true
	}
	if m.Data[rtmProtocol] == byte(routeProtocol) {
		return true
	}
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofRtMsg:])
	if err != nil {
		return true
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4 {
			return binary.NativeEndian.Uint32(a.Value) == uint32(h.knet.Load())
		}
	}
	return false
}
