// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func (b *bed) flows(f *dataplanev1.Filter, limit int) (list []*dataplanev1.Flow, err error) {
	b.Helper()
	b.ask(func() {
		err = b.f.Flows(b.Context(), f, limit, func(fl *dataplanev1.Flow) error {
			list = append(list, fl)
			return nil
		})
	})
	slices.SortFunc(list, func(x, y *dataplanev1.Flow) int {
		return cmp.Or(cmp.Compare(x.InPort, y.InPort), cmp.Compare(x.Original.DstPort, y.Original.DstPort))
	})
	return list, err
}

func TestFlows(t *testing.T) {
	b := newBed(t, podNet(services, sets, policy("in", "b", all(isolateIngress, ingressRule("a", allow, "set-a")))))
	s := udp("10.0.0.1", "10.96.0.1").with(func(s *spec) { s.dport = 80 })
	at := s.hop().with(func(s *spec) { s.dst, s.dport = "10.0.0.2", 8080 })
	b.pass("a", s, "b", at)
	b.now += 2 * time.Second
	b.pass("b", at.answer().with(func(s *spec) { s.ttl, s.size = 64, 100 }), "a", s.answer().with(func(s *spec) { s.ttl, s.size = 63, 100 }))
	b.forward("c", tcp("10.0.0.3", "198.51.100.7", packet.TCPSyn), "host")
	b.forward("host", tcp("2001:db8::7", "fd00::3", packet.TCPAck), "c")
	b.now += time.Second
	want := []*dataplanev1.Flow{
		{
			Original: &dataplanev1.Tuple{Src: "10.0.0.1", Dst: "10.96.0.1", Protocol: 17, SrcPort: 40000, DstPort: 80},
			Reply:    &dataplanev1.Tuple{Src: "10.0.0.2", Dst: "10.0.0.1", Protocol: 17, SrcPort: 8080, DstPort: 40000},
			InPort:   "a", OutPort: "b", State: "established", Packets: 1, Bytes: 48, ReplyPackets: 1, ReplyBytes: 128,
			IdleNano: int64(time.Second), ExpiresNano: int64(119 * time.Second), Rule: "in/a",
		}, {
			Original: &dataplanev1.Tuple{Src: "10.0.0.3", Dst: "198.51.100.7", Protocol: 6, SrcPort: 40000, DstPort: 80},
			Reply:    &dataplanev1.Tuple{Src: "198.51.100.7", Dst: "10.0.0.3", Protocol: 6, SrcPort: 80, DstPort: 40000},
			InPort:   "c", OutPort: "host", State: "syn-sent", Packets: 1, Bytes: 40,
			IdleNano: int64(time.Second), ExpiresNano: int64(29 * time.Second),
		}, {
			Original: &dataplanev1.Tuple{Src: "2001:db8::7", Dst: "fd00::3", Protocol: 6, SrcPort: 40000, DstPort: 80},
			Reply:    &dataplanev1.Tuple{Src: "fd00::3", Dst: "2001:db8::7", Protocol: 6, SrcPort: 80, DstPort: 40000},
			InPort:   "host", OutPort: "c", State: "established", Packets: 1, Bytes: 60,
			IdleNano: int64(time.Second), ExpiresNano: int64(7199 * time.Second),
		},
	}
	check := func(f *dataplanev1.Filter, want ...*dataplanev1.Flow) {
		t.Helper()
		got, err := b.flows(f, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d := gocmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Errorf("flows by %v (-want +got):\n%s", f, d)
		}
	}
	b.w.tick()
	check(nil, want...)
	check(&dataplanev1.Filter{Port: "c"}, want[1:]...)
	check(&dataplanev1.Filter{Protocol: 17}, want[0])
	check(&dataplanev1.Filter{Address: "10.0.0.2"}, want[0]) // behind the service
	check(&dataplanev1.Filter{Address: "10.96.0.0/16"}, want[0])
	check(&dataplanev1.Filter{L4Port: 8080}, want[0])
	check(&dataplanev1.Filter{Verdict: "drop"})
	check(&dataplanev1.Filter{Port: "nobody"})
	if got, _ := b.flows(nil, 2); len(got) != 2 {
		t.Errorf("%d flows, want the 2 asked for", len(got))
	}
	if _, err := b.flows(&dataplanev1.Filter{Address: "x"}, 0); status.Code(err) != codes.InvalidArgument {
		t.Errorf("error %v for a bad filter", err)
	}
	stop := errors.New("stream is gone")
	b.ask(func() {
		if err := b.f.Flows(t.Context(), nil, 0, func(*dataplanev1.Flow) error { return stop }); err != stop {
			t.Errorf("error %v, want %v", err, stop)
		}
	})
	t.Run("a flow that nobody has judged since a change names no rule", func(t *testing.T) {
		b.apply(b.f.Snapshot())
		got, err := b.flows(&dataplanev1.Filter{Protocol: 17}, 0)
		if err != nil || len(got) != 1 || got[0].Rule != "" {
			t.Errorf("flows %v, error %v", got, err)
		}
	})
	t.Run("more than are taken at a time", func(t *testing.T) {
		b := newBedOn(t, podNet(), memdevConfig, 3*flowsAtATime)
		for n := range 2*flowsAtATime + 3 {
			b.dev.Receive(b.rx("a", udp("10.0.0.1", "10.0.0.2").with(func(s *spec) { s.sport = uint16(n) })).Rx)
			turn(b, b.w)
		}
		b.dev.Sent()
		got, err := b.flows(nil, 0)
		if err != nil || len(got) != 2*flowsAtATime+3 {
			t.Errorf("%d flows, error %v", len(got), err)
		}
	})
}

func TestPortsAndDrops(t *testing.T) {
	b := newBed(t, podNet())
	s := udp("10.0.0.1", "10.0.0.2")
	for range 3 {
		b.forward("a", s, "b")
	}
	b.forward("b", s.answer().with(func(s *spec) { s.size = 100 }), "a")
	b.drop("a", udp("10.0.0.2", "10.0.0.3"), ReasonSpoofed)
	b.drop("a", udp("10.0.0.2", "10.0.0.3"), ReasonSpoofed)
	b.drop("c", udp("10.0.0.3", "224.0.0.1"), ReasonMulticast)
	area := b.dev.Area().Port(b.port("a"))
	area.QPackets, area.QBytes, area.Nbufs, area.ParkedBytes = 3, 4000, 5, 60000

	var ports []*dataplanev1.PortStatus
	var err error
	b.ask(func() { ports, err = b.f.Ports(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	config := b.f.Snapshot().Ports
	want := []*dataplanev1.PortStatus{
		{Config: config[0], Id: 1, Up: true, RxPackets: 5, RxBytes: 5 * 48, TxPackets: 1, TxBytes: 128, Drops: 2, Connections: 1,
			QueuePackets: 3, QueueBytes: 4000, Nbufs: 5, ParkedBytes: 60000},
		{Config: config[1], Id: 2, Up: true, RxPackets: 1, RxBytes: 128, TxPackets: 3, TxBytes: 3 * 48},
		{Config: config[2], Id: 3, Up: true, RxPackets: 1, RxBytes: 48, Drops: 1},
		{Config: config[3], Id: 4, Up: true},
	}
	if d := gocmp.Diff(want, ports, protocmp.Transform()); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}

	drops := func(port string) (list []*dataplanev1.DropCount) {
		t.Helper()
		b.ask(func() { list, err = b.f.Drops(t.Context(), port) })
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	spoofed := &dataplanev1.DropCount{Port: "a", Reason: "spoofed-source", Packets: 2, Description: ReasonSpoofed.Description()}
	multicast := &dataplanev1.DropCount{Port: "c", Reason: "multicast", Packets: 1, Description: ReasonMulticast.Description()}
	if d := gocmp.Diff([]*dataplanev1.DropCount{spoofed, multicast}, drops(""), protocmp.Transform()); d != "" {
		t.Errorf("drops (-want +got):\n%s", d)
	}
	if d := gocmp.Diff([]*dataplanev1.DropCount{multicast}, drops("c"), protocmp.Transform()); d != "" {
		t.Errorf("drops of c (-want +got):\n%s", d)
	}
	if list := drops("b"); len(list) != 0 {
		t.Errorf("drops of b: %v", list)
	}
	b.ask(func() { _, err = b.f.Drops(t.Context(), "nobody") })
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("error %v, want NOT_FOUND with the port's name", err)
	}
	t.Run("drops of a port that goes count on", func(t *testing.T) {
		b.apply(podNet(func(s *dataplanev1.Snapshot) {
			s.Ports = slices.DeleteFunc(s.Ports, func(p *dataplanev1.Port) bool { return p.GetName() == "c" })
		}))
		gone := &dataplanev1.DropCount{Reason: "multicast", Packets: 1, Description: ReasonMulticast.Description()}
		if d := gocmp.Diff([]*dataplanev1.DropCount{spoofed, gone}, drops(""), protocmp.Transform()); d != "" {
			t.Errorf("drops (-want +got):\n%s", d)
		}
	})
	t.Run("a port whose knet could not be made is listed", func(t *testing.T) {
		b.dev.FailPorts(func(op, name string) error {
			if op == "add" && name == "d" {
				return os.ErrNotExist
			}
			return nil
		})
		b.apply(podNet(func(s *dataplanev1.Snapshot) {
			s.Ports = append(s.Ports, &dataplanev1.Port{Name: "d", Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/d", Addresses: []string{"10.0.0.4"}})
		}))
		b.ask(func() { ports, err = b.f.Ports(t.Context()) })
		if err != nil || len(ports) != 5 || ports[4].Config.Name != "d" || ports[4].Id != 0 || ports[4].Up {
			t.Errorf("ports %v, error %v", ports, err)
		}
	})
}

func TestStatus(t *testing.T) {
	b := newBed(t, podNet())
	b.forward("a", udp("10.0.0.1", "10.0.0.2"), "b")
	b.drop("a", udp("10.0.0.2", "10.0.0.3"), ReasonSpoofed)
	b.dev.Area().Port(1).Nbufs = 5
	var st *dataplanev1.StatusResponse
	var err error
	b.ask(func() { st, err = b.f.Status(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	lane := st.Lanes[0]
	if lane.Kicks == 0 || lane.Vectors == 0 || len(st.Lanes) != 1 {
		t.Errorf("lane %v", lane)
	}
	lane.Kicks, lane.Vectors = 0, 0
	want := &dataplanev1.StatusResponse{
		Pid: uint32(os.Getpid()), Revision: 1, Ports: 4, Device: "soft", Connections: 1, ConnectionsMax: 1024,
		Nbufs: 512, NbufsFree: 512 - 5 - stockFill,
		Lanes: []*dataplanev1.LaneStatus{{RxPackets: 2, RxBytes: 96, TxPackets: 1, TxBytes: 48, SlowPath: 2}},
	}
	if d := gocmp.Diff(want, st, protocmp.Transform()); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
}
