// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// TestMain lets the test binary be the forwarder: the supervisor starts its
// workers from its own executable.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "forward" {
		cmd := NewCommand("test")
		cmd.SetArgs(os.Args[2:])
		if err := cmd.Execute(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bed is two pods on a running forwarder.
//
//	netns a (10.77.0.1, fd77::1) ── knet ── forwarder ── knet ── netns b (.2)
type bed struct {
	t      *testing.T
	a, b   string // namespaces
	runDir string
	sup    *exec.Cmd
	log    *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func newBed(t *testing.T) *bed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces and TUN")
	}
	b := &bed{t: t, runDir: t.TempDir(), log: &logBuffer{}}
	for i, ns := range []*string{&b.a, &b.b} {
		*ns = fmt.Sprintf("nioproc%d%c", os.Getpid(), 'a'+i)
		run(t, "ip", "netns", "add", *ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", *ns) })
	}
	b.start()
	t.Cleanup(b.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	return b
}

// start runs the supervisor.
func (b *bed) start() { b.sup = b.supervisor() }

// supervisor runs another one.
func (b *bed) supervisor(flags ...string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"forward", "--run-dir", b.runDir, "--max-connections", "4096"}, flags...)...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return cmd
}

func (b *bed) stop() { end(b.sup) }

func end(sup *exec.Cmd) {
	_ = sup.Process.Signal(unix.SIGTERM)
	_ = sup.Wait()
}

// dial connects to the worker that lives now. Nobody keeps the connection: one
// to a worker that has been killed takes calls until its end is noticed.
func (b *bed) dial() (context.Context, *grpc.ClientConn) {
	b.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(b.runDir, socketFile), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	b.t.Cleanup(func() { cancel(); conn.Close() })
	return ctx, conn
}

func (b *bed) status() *dataplanev1.StatusResponse {
	b.t.Helper()
	ctx, conn := b.dial()
	st, err := dataplanev1.NewObservationClient(conn).Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

// wire gives the pods their ports and addresses.
func (b *bed) wire() {
	b.t.Helper()
	snap := &dataplanev1.Snapshot{Revision: 7, Settings: &dataplanev1.Settings{Ipv4: "10.77.0.254", Ipv6: "fd77::fe"}}
	for i, ns := range []string{b.a, b.b} {
		snap.Ports = append(snap.Ports, &dataplanev1.Port{
			Name: ns, Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: "/run/netns/" + ns,
			Addresses: []string{fmt.Sprintf("10.77.0.%d", i+1), fmt.Sprintf("fd77::%d", i+1)},
		})
	}
	ctx, conn := b.dial()
	res, err := dataplanev1.NewConfigurationClient(conn).Apply(ctx, &dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Snapshot{Snapshot: snap}})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range res.Ports {
		if p.Error != "" {
			b.t.Fatalf("port %s: %s", p.Name, p.Error)
		}
	}
	for i, ns := range []string{b.a, b.b} {
		run(b.t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("10.77.0.%d/32", i+1), "dev", "eth0")
		run(b.t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("fd77::%d/128", i+1), "dev", "eth0", "nodad")
		run(b.t, "ip", "-n", ns, "link", "set", "eth0", "up")
		run(b.t, "ip", "-n", ns, "route", "add", "default", "dev", "eth0")
		run(b.t, "ip", "-n", ns, "-6", "route", "add", "default", "dev", "eth0")
	}
}

// inNetns runs f on a thread inside a namespace; what sockets it makes stay there.
func inNetns[T any](t *testing.T, ns string, f func() (T, error)) T {
	t.Helper()
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		var r result
		if err != nil {
			r.err = err
		} else {
			defer unix.Close(fd)
			if r.err = unix.Setns(fd, unix.CLONE_NEWNET); r.err == nil {
				r.v, r.err = f()
			}
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.v
}

// stream is a TCP connection from a to b on which a counts up.
type stream struct {
	received atomic.Uint64
	gap      atomic.Int64 // longest time without data, ns
	err      chan error
}

func (b *bed) stream(ctx context.Context, addr string) *stream {
	b.t.Helper()
	s := &stream{err: make(chan error, 2)}
	l := inNetns(b.t, b.b, func() (net.Listener, error) { return net.Listen("tcp", net.JoinHostPort(addr, "0")) })
	out := inNetns(b.t, b.a, func() (net.Conn, error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		return d.DialContext(ctx, "tcp", l.Addr().String())
	})
	in, err := l.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	l.Close()
	context.AfterFunc(ctx, func() { out.Close(); in.Close() })
	go func() {
		buf := make([]byte, 32<<10)
		for n := uint64(0); ; {
			for i := 0; i < len(buf); i += 8 {
				binary.LittleEndian.PutUint64(buf[i:], n)
				n++
			}
			if _, err := out.Write(buf); err != nil {
				s.err <- fmt.Errorf("write: %w", err)
				return
			}
		}
	}()
	go func() {
		buf := make([]byte, 32<<10)
		last := time.Now()
		for n := uint64(0); ; {
			if _, err := io.ReadFull(in, buf); err != nil {
				s.err <- fmt.Errorf("read: %w", err)
				return
			}
			for i := 0; i < len(buf); i += 8 {
				if v := binary.LittleEndian.Uint64(buf[i:]); v != n {
					s.err <- fmt.Errorf("word %d is %d", n, v)
					return
				}
				n++
			}
			now := time.Now()
			if d := int64(now.Sub(last)); d > s.gap.Load() {
				s.gap.Store(d)
			}
			last = now
			s.received.Store(n)
		}
	}()
	return s
}

// TestKillWorker kills the worker under eight TCP streams, again and again: no
// stream dies and none loses a byte.
func TestKillWorker(t *testing.T) {
	b := newBed(t)
	b.wire()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var streams []*stream
	for i := range 8 {
		streams = append(streams, b.stream(ctx, []string{"10.77.0.2", "fd77::2"}[i%2]))
	}
	kills := 20
	if testing.Short() {
		kills = 3
	}
	var longest time.Duration
	for k := range kills {
		st := b.status()
		if st.Revision != 7 || int(st.Restarts) != k {
			t.Fatalf("revision %d after %d restarts, want 7 after %d", st.Revision, st.Restarts, k)
		}
		longest = max(longest, time.Duration(st.LastRestartGapNano))
		before := make([]uint64, len(streams))
		for i, s := range streams {
			before[i] = s.received.Load()
		}
		if err := unix.Kill(int(st.Pid), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(30 * time.Second)
		for i, s := range streams {
			// A good deal further than what was in flight.
			for s.received.Load() < before[i]+1<<20/8 {
				select {
				case err := <-s.err:
					t.Fatalf("kill %d: stream %d: %v", k, i, err)
				case <-deadline:
					t.Fatalf("kill %d: stream %d stands still after %d words", k, i, s.received.Load())
				case <-time.After(time.Millisecond):
				}
			}
		}
	}
	var stall time.Duration
	for _, s := range streams {
		stall = max(stall, time.Duration(s.gap.Load()))
	}
	t.Logf("%d kills: longest restart gap %v, longest stall of a stream %v", kills, longest, stall)
}

// TestKillSupervisor kills both processes; the next supervisor's worker finds
// configuration, connections and the pods' interfaces.
func TestKillSupervisor(t *testing.T) {
	b := newBed(t)
	b.wire()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := b.stream(ctx, "10.77.0.2")
	old := int(b.status().Pid)
	worker, err := unix.PidfdOpen(old, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(worker)
	if err := b.sup.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.sup.Wait()
	before := s.received.Load()
	// The next supervisor starts beside a worker that may still be dying.
	b.start()
	for end := []unix.PollFd{{Fd: int32(worker), Events: unix.POLLIN}}; ; {
		n, err := unix.Poll(end, 20_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 {
			t.Fatalf("the worker outlives its supervisor: %v", err)
		}
		break
	}
	st := b.status()
	if st.Revision != 7 || int(st.Pid) == old {
		t.Errorf("revision %d from process %d, want 7 from another than %d", st.Revision, st.Pid, old)
	}
	deadline := time.After(30 * time.Second)
	for s.received.Load() < before+1<<20/8 {
		select {
		case err := <-s.err:
			t.Fatal(err)
		case <-deadline:
			t.Fatalf("stream stands still after %d words", s.received.Load())
		case <-time.After(time.Millisecond):
		}
	}
}

// TestOneSupervisor: a second one on the same run directory is refused.
func TestOneSupervisor(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockRunDir(dir); !errors.Is(err, errLocked) {
		t.Errorf("second lock: %v", err)
	}
	lock.Close()
	if lock, err = lockRunDir(dir); err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--lanes 0":            "--lanes 0: want 1 to 64",
		"--nbufs 1":            "--nbufs 1: want 256",
		"--device floppy":      "want auto, kernel or soft",
		"--max-connections -1": "want 0 or more",
		"--poll 2m":            "want 0 to 1m",
		"--instance ":          "want 1 to 31 bytes",
		"stray":                "unknown command",
		"--worker":             "is started by netio-agent forward",
	} {
		t.Run(args, func(t *testing.T) {
			cmd := NewCommand("test")
			cmd.SetArgs(strings.Split(args, " "))
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
		})
	}
}
