// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestMonitorSendsItsFilter(t *testing.T) {
	fw := goldenForwarder()
	fw.monitored = make(chan *dataplanev1.MonitorRequest, 1)
	b := newBed(t, fw, true)
	b.do(t, strings.Fields("monitor --port default/web --address 10.0.0.0/8 --protocol TCP --l4-port 80 --verdict deny --reason policy-ingress --count 1")...)
	want := `port:"knet7f3a" address:"10.0.0.0/8" protocol:6 l4_port:80 verdict:"deny" reason:"policy-ingress"`
	got := strings.Join(strings.Fields((<-fw.monitored).GetFilter().String()), " ")
	if got != want {
		t.Errorf("filter is %s, want %s", got, want)
	}
}

func TestMonitorWritesOneObjectALine(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	if code := b.do(t, strings.Fields("monitor -o json --count 4")...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, b.errOut.String())
	}
	lines := strings.Split(strings.TrimSpace(b.out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, l := range lines {
		var ev map[string]any
		if err := json.Unmarshal([]byte(l), &ev); err != nil {
			t.Errorf("%q: %v", l, err)
		}
	}
}

// A forwarder that goes away is an error; the loss is told all the same.
func TestMonitorOfAForwarderThatStops(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	if code := b.do(t, "monitor"); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if got := b.errOut.String(); !strings.Contains(got, "the forwarder has gone away: shutting down") {
		t.Errorf("standard error: %s", got)
	}
}

// watchWriter calls a function once the text has been written.
type watchWriter struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	until string
	then  func()
}

func (w *watchWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buf.Write(p)
	if w.then != nil && strings.Contains(w.buf.String(), w.until) {
		w.then()
		w.then = nil
	}
	return n, err
}

func TestInterruptEndsStreamsWell(t *testing.T) {
	for _, c := range []struct{ args, until, note string }{
		{"monitor", "192.0.2.1:53", "1201 events came too fast"},
		{"capture web2", "not IP", "8 packets captured, 3 packets came too fast"},
	} {
		t.Run(c.args, func(t *testing.T) {
			fw := goldenForwarder()
			fw.end = nil
			b := newBed(t, fw, true)
			ctx, interrupt := context.WithCancel(t.Context())
			out := &watchWriter{until: c.until, then: interrupt}
			if c.args == "monitor" {
				out.until = "1 event left out" // the last one
			}
			b.app.out = out
			args := strings.Fields(strings.Replace(c.args, "web2", "default/web", 1))
			if code := b.run(ctx, args); code != exitOK {
				t.Errorf("exit code %d: %s", code, b.errOut.String())
			}
			if !strings.Contains(b.errOut.String(), c.note) {
				t.Errorf("standard error %q, want %q", b.errOut.String(), c.note)
			}
		})
	}
}

func TestInterruptEndsRequests(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if code := b.run(ctx, []string{"ports"}); code != exitError || !strings.Contains(b.errOut.String(), "interrupted") {
		t.Errorf("exit code %d: %s", code, b.errOut.String())
	}
}

func readPcap(t *testing.T, r io.Reader, wantSnap uint32) (n int) {
	t.Helper()
	p, err := pcapgo.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	if p.LinkType() != layers.LinkTypeRaw || p.Snaplen() != wantSnap {
		t.Errorf("link type %v, snapshot length %d", p.LinkType(), p.Snaplen())
	}
	for want := samplePackets(); ; n++ {
		data, ci, err := p.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Fatalf("packet %d: %v", n, err)
		}
		if w := want[n]; !bytes.Equal(data, w.GetData()) || ci.Timestamp.UnixNano() != w.GetTimeUnixNano() || ci.Length != int(w.GetLength()) {
			t.Errorf("packet %d: %v %x", n, ci, data)
		}
	}
}

func TestCaptureFile(t *testing.T) {
	fw := goldenForwarder()
	fw.captured = make(chan *dataplanev1.CaptureRequest, 1)
	b := newBed(t, fw, true)
	file := filepath.Join(b.dir, "out.pcap")
	if code := b.do(t, "capture", "default/web", "-w", file, "--count", "7", "--snap-length", "4000"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, b.errOut.String())
	}
	if req := <-fw.captured; req.GetPort() != "knet7f3a" || req.GetSnapLength() != 4000 {
		t.Errorf("request %v", req)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := readPcap(t, f, 4000); n != 7 {
		t.Errorf("%d packets in the file", n)
	}
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: others may read the packets", st.Mode(), err)
	}
	if got := b.errOut.String(); got != "capturing on port knet7f3a\n7 packets captured, 3 packets came too fast and were left out; take less of each with --snap-length\n" {
		t.Errorf("standard error: %q", got)
	}
	if b.out.Len() != 0 {
		t.Errorf("standard output: %q", b.out.String())
	}
}

// A pipe gets each packet as soon as the stream pauses, not when a buffer is full.
func TestCaptureToPipe(t *testing.T) {
	fw := goldenForwarder()
	fw.end = nil
	b := newBed(t, fw, true)
	r, w := io.Pipe()
	b.app.out = w
	ctx, interrupt := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- b.run(ctx, []string{"capture", "default/web", "-w", "-"})
		w.Close()
	}()
	p, err := pcapgo.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	if p.Snaplen() != pcapWhole {
		t.Errorf("snapshot length %d", p.Snaplen())
	}
	for i := range samplePackets() {
		if _, _, err := p.ReadPacketData(); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
	}
	interrupt()
	if _, _, err := p.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last packet: %v", err)
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) {
	return 0, fmt.Errorf("write: %w", syscall.EPIPE)
}

func TestAReaderThatHasSeenEnoughIsNoError(t *testing.T) {
	for _, args := range []string{"capture host -w -", "capture host", "monitor", "ports"} {
		b := newBed(t, goldenForwarder(), true)
		b.app.out = brokenPipe{}
		if code := b.do(t, strings.Fields(args)...); code != exitOK {
			t.Errorf("%s: exit code %d: %s", args, code, b.errOut.String())
		}
	}
}

func TestCaptureErrors(t *testing.T) {
	fw := goldenForwarder()
	for _, c := range []struct {
		args string
		want string
		code int
	}{
		{"capture", "expected one port's name", exitUsage},
		{"capture host -w x -o json", "-w writes a pcap file", exitUsage},
		{"capture nobody", `no endpoint or port is called "nobody"`, exitError},
		{"capture host -w /nonexistent/file", "no such file or directory", exitError},
		{"capture host --count 9", "shutting down", exitError},
	} {
		b := newBed(t, fw, true)
		if code := b.do(t, strings.Fields(c.args)...); code != c.code || !strings.Contains(b.errOut.String(), c.want) {
			t.Errorf("%s: exit code %d, %q", c.args, code, b.errOut.String())
		}
	}
	b := newBed(t, fw, true)
	b.terminal = true
	if code := b.do(t, strings.Fields("capture host -w -")...); code != exitUsage || !strings.Contains(b.errOut.String(), "terminal") {
		t.Errorf("pcap to a terminal: exit code %d, %q", code, b.errOut.String())
	}
}

// A capture that is refused leaves no file.
func TestRefusedCaptureLeavesNoFile(t *testing.T) {
	b := newBed(t, &fakeForwarder{}, true)
	file := filepath.Join(b.dir, "out.pcap")
	if code := b.do(t, "capture", "host", "-w", file); code != exitError || !strings.Contains(b.errOut.String(), "as many streams") {
		t.Errorf("exit code %d: %s", code, b.errOut.String())
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

func TestFlowsLetTheForwarderLimitWhenNotSorting(t *testing.T) {
	fw := goldenForwarder()
	fw.listed = make(chan *dataplanev1.ListFlowsRequest, 2)
	b := newBed(t, fw, false)
	b.do(t, strings.Fields("flows --limit 2 --sort none --protocol 17")...)
	if req := <-fw.listed; req.GetLimit() != 2 || req.GetFilter().GetProtocol() != 17 {
		t.Errorf("request %v", req)
	}
	b.do(t, strings.Fields("flows --limit 2")...)
	if req := <-fw.listed; req.GetLimit() != 0 {
		t.Errorf("request %v: the forwarder cannot know which are the greatest", req)
	}
}

func TestPortRates(t *testing.T) {
	port := func(name string, id uint32, rx, tx uint64) *dataplanev1.PortStatus {
		return &dataplanev1.PortStatus{
			Config: &dataplanev1.Port{Name: name}, Id: id, Up: true, RxPackets: rx, RxBytes: rx * 1500, TxPackets: tx, TxBytes: tx * 1500, Drops: rx / 10,
		}
	}
	before := &dataplanev1.ListPortsResponse{Ports: []*dataplanev1.PortStatus{port("a", 1, 100, 0), port("b", 2, 500, 500), port("gone", 3, 1, 1)}}
	after := &dataplanev1.ListPortsResponse{Ports: []*dataplanev1.PortStatus{port("a", 1, 200_100, 100), port("b", 2, 100, 600), port("new", 3, 9, 9)}}
	var out strings.Builder
	if err := (&app{}).rateTable(before, after, 2*time.Second).write(&out); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"PORT   OWNER   STATE      RX RATE   RX PKTS      TX RATE   TX PKTS   DROPS",
		"a      -       up      1.2 Gbit/s    100k/s   600 kbit/s      50/s   10k/s",
		"b      -       up         0 bit/s       0/s   600 kbit/s      50/s     0/s",
		"",
	}, "\n")
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestPortRatesMeasure(t *testing.T) {
	b := newBed(t, goldenForwarder(), false)
	now := fakeNow
	b.now = func() time.Time { now = now.Add(time.Second); return now }
	if code := b.do(t, strings.Fields("ports --rate 1ms host")...); code != exitOK || !strings.Contains(b.out.String(), "0 bit/s") {
		t.Errorf("exit code %d: %s%s", code, b.out.String(), b.errOut.String())
	}
	for _, args := range []string{"ports --rate -1s", "ports --rate 1s -o json", "ports --rate 1s --wide", "ports --rate soon"} {
		if code := b.do(t, strings.Fields(args)...); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", args, code, b.errOut.String())
		}
	}
}

var errShutDown = status.Error(codes.Unavailable, "shutting down")

func TestDrainFlushesWhenTheStreamPauses(t *testing.T) {
	more := make(chan struct{})
	packets := samplePackets()
	recv := func() (*dataplanev1.CapturedPacket, error) {
		if len(packets) == 0 {
			return nil, errShutDown
		}
		if len(packets) == 4 {
			<-more // the stream pauses until what came before is flushed
		}
		p := packets[0]
		packets = packets[1:]
		return p, nil
	}
	sink := &countingSink{pause: 4, paused: more}
	shown, lost, err := drain(t.Context(), func() {}, recv, sink, 0)
	if shown != 8 || lost != 3 || !errors.Is(err, errShutDown) {
		t.Errorf("%d shown, %d lost, %v", shown, lost, err)
	}
	if sink.flushed != 8 {
		t.Errorf("%d of 8 packets were flushed", sink.flushed)
	}
}

// countingSink opens paused once it has been flushed after pause packets.
type countingSink struct {
	written, flushed, pause int
	paused                  chan struct{}
}

func (s *countingSink) write(*dataplanev1.CapturedPacket) error {
	s.written++
	return nil
}

func (s *countingSink) flush() error {
	s.flushed = s.written
	if s.written == s.pause && s.paused != nil {
		close(s.paused)
		s.paused = nil
	}
	return nil
}
