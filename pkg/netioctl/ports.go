// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func (a *app) portsCommand() *cobra.Command {
	var wide bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "ports [PORT...]",
		Short: "List the ports: the pods' knets and the host's",
		Long: `List the ports: the pods' knets and the host's. RX is what has come from a
port, TX what has been sent to it. A port is named by its name or by its
pod's.`,
		Example: `  netioctl ports
  netioctl ports default/web --wide
  netioctl ports --rate 2s`,
		Args:              arguments(0, -1, "port names"),
		ValidArgsFunction: a.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case interval < 0:
				return usagef("--rate %v: give a time above 0, such as 1s", interval)
			case interval > 0 && a.format != formatTable:
				return usagef("--rate makes a table; for -o %s take the counters of two calls", a.format.String())
			case interval > 0 && wide:
				return usagef("--rate and --wide make different tables; give one of them")
			}
			fw, err := a.forwarder()
			if err != nil {
				return err
			}
			defer fw.Close()
			list, err := a.listPorts(cmd.Context(), fw, args)
			if err != nil {
				return err
			}
			switch {
			case interval > 0:
				return a.portRates(cmd.Context(), fw, list, args, interval)
			case wide:
				return a.print(list, func(w io.Writer) error { return writePorts(w, a.portDetails(list), list) })
			}
			return a.print(list, func(w io.Writer) error { return writePorts(w, a.portTable(list), list) })
		},
	}
	cmd.Flags().BoolVar(&wide, "wide", false, "show interface, namespace, buffers and policies instead of counters")
	cmd.Flags().DurationVar(&interval, "rate", 0, "measure for this long and show rates")
	return cmd
}

// listPorts asks for the ports, of these names if there are any, in that order.
func (a *app) listPorts(ctx context.Context, fw *forwarder, names []string) (*dataplanev1.ListPortsResponse, error) {
	list, err := fw.ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil || len(names) == 0 {
		return list, err
	}
	some := &dataplanev1.ListPortsResponse{}
	for _, name := range names {
		name, err := a.portName(ctx, fw, name)
		if err != nil {
			return nil, err
		}
		for _, p := range list.GetPorts() {
			if p.GetConfig().GetName() == name {
				some.Ports = append(some.Ports, p)
			}
		}
	}
	return some, nil
}

// portName turns what people call a port into the forwarder's name for it.
func (a *app) portName(ctx context.Context, fw *forwarder, name string) (string, error) {
	ports, err := portPlaces(ctx, fw)
	if err != nil {
		return "", err
	}
	if p, err := find(ports, name); err == nil {
		return p.port, nil
	}
	p, err := a.lookup(ctx, fw, name)
	return p.port, err
}

func state(p *dataplanev1.PortStatus) string {
	switch {
	case p.GetError() != "":
		return "failed"
	case p.GetUp():
		return "up"
	}
	return "down"
}

// writePorts writes a table of ports, and below it why some have failed.
func writePorts(w io.Writer, t *table, list *dataplanev1.ListPortsResponse) error {
	if err := t.write(w); err != nil {
		return err
	}
	for _, p := range list.GetPorts() {
		if p.GetError() != "" {
			if _, err := fmt.Fprintf(w, "%s failed, and is tried again: %s\n", p.GetConfig().GetName(), p.GetError()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) stateColumn() []column { return []column{{title: "STATE", paint: a.verdict}} }

func kind(p *dataplanev1.Port) string { return strings.ToLower(p.GetKind().String()) }

func (a *app) portTable(list *dataplanev1.ListPortsResponse) *table {
	t := newTable(left("PORT", "OWNER", "KIND"), a.stateColumn(), left("ADDRESSES"),
		right("RX PKTS", "RX", "TX PKTS", "TX", "DROPS", "CONNS", "QUEUED"))
	for _, p := range list.GetPorts() {
		c := p.GetConfig()
		t.add(c.GetName(), owner(c), kind(c), state(p), strings.Join(c.GetAddresses(), ","),
			count(p.GetRxPackets()), size(p.GetRxBytes()), count(p.GetTxPackets()), size(p.GetTxBytes()),
			count(p.GetDrops()), count(uint64(p.GetConnections())), size(uint64(p.GetQueueBytes())))
	}
	return t
}

func (a *app) portDetails(list *dataplanev1.ListPortsResponse) *table {
	t := newTable(left("PORT", "OWNER"), right("ID"), a.stateColumn(), left("INTERFACE", "NETNS"), right("MTU", "NBUFS", "PARKED"), left("POLICIES"))
	for _, p := range list.GetPorts() {
		c := p.GetConfig()
		mtu := c.GetMtu()
		if mtu == 0 {
			mtu = 1500
		}
		t.add(c.GetName(), owner(c), strconv.FormatUint(uint64(p.GetId()), 10), state(p), c.GetIfname(), c.GetNetns(),
			strconv.FormatUint(uint64(mtu), 10), count(uint64(p.GetNbufs())), size(uint64(p.GetParkedBytes())), strings.Join(c.GetPolicies(), ","))
	}
	return t
}

// owner is the pod behind a port, "" if there is none.
func owner(c *dataplanev1.Port) string {
	if name := portOwner(c); name != c.GetName() {
		return name
	}
	return ""
}

// portRates takes a second sample and shows the difference.
func (a *app) portRates(ctx context.Context, fw *forwarder, before *dataplanev1.ListPortsResponse, names []string, interval time.Duration) error {
	start := a.now()
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := a.listPorts(ctx, fw, names)
	if err != nil {
		return err
	}
	return a.rateTable(before, after, a.now().Sub(start)).write(a.out)
}

// rateTable shows the ports that are in both samples.
func (a *app) rateTable(before, after *dataplanev1.ListPortsResponse, d time.Duration) *table {
	was := make(map[uint32]*dataplanev1.PortStatus)
	for _, p := range before.GetPorts() {
		was[p.GetId()] = p
	}
	t := newTable(left("PORT", "OWNER"), a.stateColumn(), right("RX RATE", "RX PKTS", "TX RATE", "TX PKTS", "DROPS"))
	for _, p := range after.GetPorts() {
		b := was[p.GetId()]
		if b == nil || b.GetConfig().GetName() != p.GetConfig().GetName() {
			continue
		}
		diff := func(get func(*dataplanev1.PortStatus) uint64) uint64 {
			return get(p) - min(get(b), get(p)) // counters begin anew with the forwarder
		}
		t.add(p.GetConfig().GetName(), owner(p.GetConfig()), state(p),
			bitRate(diff((*dataplanev1.PortStatus).GetRxBytes), d), rate(diff((*dataplanev1.PortStatus).GetRxPackets), d),
			bitRate(diff((*dataplanev1.PortStatus).GetTxBytes), d), rate(diff((*dataplanev1.PortStatus).GetTxPackets), d),
			rate(diff((*dataplanev1.PortStatus).GetDrops), d))
	}
	return t
}
