// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"strings"
	"testing"
)

// listen serves on free ports of the loopback interface.
func listen(t *testing.T) (tcp, udp string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	go func() { _ = answerTCP(l, "pod") }()
	go func() { _ = answerUDP(p, "pod") }()
	return l.Addr().String(), p.LocalAddr().String()
}

func TestAsk(t *testing.T) {
	tcp, udp := listen(t)
	for _, target := range []string{"tcp4://" + tcp, "udp4://" + udp} {
		if a := ask(target); a.Name != "pod" || a.From != "127.0.0.1" || a.Error != "" || a.Target != target {
			t.Errorf("%+v", a)
		}
	}
	for _, target := range []string{tcp, "sctp://" + tcp, "tcp6://" + tcp} {
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
