// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// listen serves on free ports of the loopback interface, and returns targets.
func listen(t *testing.T) []string {
	t.Helper()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() { _ = probe.AnswerTCP(tcp, "pod") }()
	targets := []string{"tcp4://" + tcp.Addr().String()}
	for _, c := range []struct {
		network, address string
		answer           func(net.PacketConn, string) error
	}{
		{"udp4", "0.0.0.0", probe.AnswerUDP4},
		{"udp6", "::", probe.AnswerUDP6},
	} {
		udp, err := net.ListenPacket(c.network, net.JoinHostPort(c.address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = udp.Close() })
		go func() { _ = c.answer(udp, "pod") }()
		_, port, err := net.SplitHostPort(udp.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		host := map[string]string{"udp4": "127.0.0.2", "udp6": "::1"}[c.network]
		targets = append(targets, c.network+"://"+net.JoinHostPort(host, port))
	}
	return targets
}

func TestAsk(t *testing.T) {
	targets := listen(t)
	for _, target := range targets {
		if a := ask(target); a.Name != "pod" || a.From == "" || a.Error != "" || a.Target != target {
			t.Errorf("%+v", a)
		}
	}
	_, address, _ := strings.Cut(targets[0], "://")
	for _, target := range []string{address, "sctp://" + address, "tcp6://" + address} {
		if a := ask(target); a.Error == "" {
			t.Errorf("%s: no error", target)
		}
	}
}

func TestEcho(t *testing.T) {
	targets := listen(t)
	for _, size := range []int64{0, 1, 1 << 16, 3<<20 + 1} {
		if name, err := echoed(targets[0], size); name != "pod" || err != nil {
			t.Errorf("%d bytes: %q, %v", size, name, err)
		}
	}
	if _, err := echoed(targets[1], 1); err == nil {
		t.Error("no error for UDP")
	}
	liar, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		conn, err := liar.Accept()
		if err == nil {
			_, _ = conn.Write(append([]byte("pod 127.0.0.1:1\n"), make([]byte, 1000)...))
			_, _ = conn.Read(make([]byte, 2000))
			_ = conn.Close()
		}
	}()
	if _, err := echoed("tcp4://"+liar.Addr().String(), 1000); err == nil || !strings.Contains(err.Error(), "others than were sent") {
		t.Errorf("other bytes than were sent: %v", err)
	}
}

func TestLoad(t *testing.T) {
	_, address, _ := strings.Cut(listen(t)[0], "://")
	nobody, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	for to, fails := range map[string]bool{address: false, nobody.Addr().String(): true} {
		in, stop := io.Pipe()
		time.AfterFunc(100*time.Millisecond, func() { _ = stop.Close() })
		var out bytes.Buffer
		if err := load("1000", to, in, &out); err != nil {
			t.Fatal(err)
		}
		var got Load
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if (got.Failed > 0) != fails || (got.OK > 0) == fails || (got.Error != "") != fails {
			t.Errorf("%s: %+v", to, got)
		}
	}
	if err := load("many", address, nil, nil); err == nil {
		t.Error("no error for a wrong rate")
	}
}
