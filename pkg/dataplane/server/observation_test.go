// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

func TestObservation(t *testing.T) {
	b := newBed(t, t.TempDir())
	b.apply(twoPods(4))

	monitor, err := b.watch.Monitor(b.ctx(), &dataplanev1.MonitorRequest{})
	if err != nil {
		t.Fatal(err)
	}
	capture, err := b.watch.Capture(b.ctx(), &dataplanev1.CaptureRequest{Port: "pod1"})
	if err != nil {
		t.Fatal(err)
	}
	// Their headers say that they have begun.
	_, err = monitor.Header()
	if _, other := capture.Header(); err != nil || other != nil {
		t.Fatal(err, other)
	}
	data := udp("10.0.0.1", "10.0.0.2", 1, 2)
	b.forwarded("pod1", "10.0.0.1", "10.0.0.2", "pod2")
	b.dev.Receive(memdev.Rx{Port: b.port("pod1"), Data: udp("10.0.0.2", "10.0.0.1", 1, 2)})

	t.Run("Monitor", func(t *testing.T) {
		for _, want := range []struct{ verdict, reason, src string }{{"allow", "", "10.0.0.1"}, {"drop", "spoofed-source", "10.0.0.2"}} {
			e, err := monitor.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if e.Verdict != want.verdict || e.Reason != want.reason || e.Tuple.Src != want.src || e.InPort != "pod1" {
				t.Errorf("event %v, want %v", e, want)
			}
		}
		if s, err := b.watch.Monitor(b.ctx(), &dataplanev1.MonitorRequest{Filter: &dataplanev1.Filter{Verdict: "maybe"}}); err == nil {
			if _, err = s.Recv(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("error %v for a bad filter", err)
			}
		}
	})
	t.Run("Capture", func(t *testing.T) {
		p, err := capture.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if p.ToPort || int(p.Length) != len(data) || !bytes.Equal(p.Data, data) || time.Since(time.Unix(0, p.TimeUnixNano)).Abs() > time.Hour {
			t.Errorf("captured %v", p)
		}
		s, err := b.watch.Capture(b.ctx(), &dataplanev1.CaptureRequest{Port: "nobody"})
		if err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.NotFound {
			t.Errorf("error %v for a port that is not there", err)
		}
	})
	t.Run("Status", func(t *testing.T) {
		st, err := b.watch.Status(b.ctx(), &dataplanev1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if st.Version != "v1.2.3" || st.Pid != uint32(os.Getpid()) || st.StartedUnixNano != 1000e9 || st.Restarts != 3 ||
			st.LastRestartGapNano != int64(7*time.Millisecond) || st.Device != "soft" || st.AbiVersion != "1.1" || st.Revision != 4 ||
			st.Ports != 3 || st.Connections != 1 || st.ConnectionsMax != 1024 || st.Nbufs != 512 || len(st.Lanes) != 1 || st.Lanes[0].RxPackets != 2 {
			t.Errorf("status %v", st)
		}
	})
	t.Run("ListPorts", func(t *testing.T) {
		res, err := b.watch.ListPorts(b.ctx(), &dataplanev1.ListPortsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Ports) != 3 || res.Ports[0].Config.Name != "pod1" || res.Ports[0].RxPackets != 2 || res.Ports[0].Drops != 1 || res.Ports[1].TxPackets != 1 || !res.Ports[2].Up {
			t.Errorf("ports %v", res.Ports)
		}
	})
	t.Run("ListFlows", func(t *testing.T) {
		list := func(req *dataplanev1.ListFlowsRequest) (flows []*dataplanev1.Flow, err error) {
			stream, err := b.watch.ListFlows(b.ctx(), req)
			if err != nil {
				return nil, err
			}
			for {
				f, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return flows, nil
				} else if err != nil {
					return nil, err
				}
				flows = append(flows, f)
			}
		}
		flows, err := list(&dataplanev1.ListFlowsRequest{})
		if err != nil || len(flows) != 1 || flows[0].InPort != "pod1" || flows[0].OutPort != "pod2" || flows[0].Packets != 1 {
			t.Errorf("flows %v, error %v", flows, err)
		}
		if flows, err = list(&dataplanev1.ListFlowsRequest{Filter: &dataplanev1.Filter{Port: "host"}}); err != nil || len(flows) != 0 {
			t.Errorf("flows %v, error %v", flows, err)
		}
		if _, err = list(&dataplanev1.ListFlowsRequest{Filter: &dataplanev1.Filter{Protocol: 999}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("error %v for a bad filter", err)
		}
	})
	t.Run("ListDrops", func(t *testing.T) {
		res, err := b.watch.ListDrops(b.ctx(), &dataplanev1.ListDropsRequest{Port: "pod1"})
		if err != nil || len(res.Drops) != 1 || res.Drops[0].Reason != "spoofed-source" || res.Drops[0].Packets != 1 || res.Drops[0].Description == "" {
			t.Errorf("drops %v, error %v", res, err)
		}
		if _, err := b.watch.ListDrops(b.ctx(), &dataplanev1.ListDropsRequest{Port: "nobody"}); status.Code(err) != codes.NotFound {
			t.Errorf("error %v for a port that is not there", err)
		}
	})
	t.Run("Explain", func(t *testing.T) {
		res, err := b.watch.Explain(b.ctx(), &dataplanev1.ExplainRequest{Tuple: &dataplanev1.Tuple{Src: "10.0.0.1", Dst: "10.0.0.2", Protocol: 6, DstPort: 80}})
		if err != nil || res.Verdict != "allow" || len(res.Steps) < 4 {
			t.Errorf("%v, error %v", res, err)
		}
		if _, err := b.watch.Explain(b.ctx(), &dataplanev1.ExplainRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("error %v for nothing", err)
		}
	})
	t.Run("streams end with the server", func(t *testing.T) {
		b.stop()
		if _, err := monitor.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("error %v, want UNAVAILABLE", err)
		}
	})
}
