// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net"
	"strings"
	"testing"
)

// listen serves on free ports of the loopback interface, and returns targets.
func listen(t *testing.T) []string {
	t.Helper()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() { _ = answerTCP(tcp, "pod") }()
	targets := []string{"tcp4://" + tcp.Addr().String()}
	for _, c := range []struct {
		network, address string
		answer           func(net.PacketConn, string) error
	}{
		{"udp4", "0.0.0.0", answerUDP4},
		{"udp6", "::", answerUDP6},
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

func TestGreetingOfSomebodyElse(t *testing.T) {
	for _, line := range []string{"", "HTTP/1.1 400 Bad Request", "pod 127.0.0.1"} {
		if _, _, err := parseGreeting(line); err == nil || !strings.Contains(err.Error(), "answer") {
			t.Errorf("%q: %v", line, err)
		}
	}
}
