// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// served is a server on free ports of the loopback interface.
type served struct{ tcp, udp4, udp6 string }

func listen(t *testing.T) served {
	t.Helper()
	var s served
	tcp, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() { _ = AnswerTCP(tcp, "pod") }()
	s.tcp = tcp.Addr().String()
	for network, c := range map[string]struct {
		answer func(net.PacketConn, string) error
		host   string
		at     *string
	}{"udp4": {AnswerUDP4, "127.0.0.2", &s.udp4}, "udp6": {AnswerUDP6, "::1", &s.udp6}} {
		udp, err := net.ListenPacket(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = udp.Close() })
		go func() { _ = c.answer(udp, "pod") }()
		_, port, err := net.SplitHostPort(udp.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		*c.at = net.JoinHostPort(c.host, port)
	}
	return s
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// mute takes connections and says nothing, or first what it is told to.
func mute(t *testing.T, says string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(conn, says)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func TestAsk(t *testing.T) {
	s := listen(t)
	const wait = 500 * time.Millisecond
	for name, c := range map[string]struct {
		q           Question
		from        string
		err, unable string // "": none
	}{
		"TCP":                  {q: Question{How: TCP, Family: 4, Target: s.tcp, Expect: []string{"pod"}}, from: "127.0.0.1"},
		"either family":        {q: Question{How: TCP, Target: s.tcp}, from: "127.0.0.1"},
		"UDP, another address": {q: Question{How: UDP, Family: 4, Target: s.udp4, Expect: []string{"x", "pod"}}, from: "127.0.0.1"},
		"UDP, IPv6":            {q: Question{How: UDP, Family: 6, Target: s.udp6}, from: "::1"},
		"bulk":                 {q: Question{How: Bulk, Family: 4, Target: s.tcp}, from: "127.0.0.1"},
		"open":                 {q: Question{How: Open, Target: s.tcp}},
		"lookup":               {q: Question{How: Lookup, Family: 4, Target: "127.0.0.9", Expect: []string{"127.0.0.9"}}},
		"lookup of others":     {q: Question{How: Lookup, Family: 4, Target: "127.0.0.9", Expect: []string{"127.0.0.8"}}, err: "127.0.0.9 is 127.0.0.9, not 127.0.0.8"},
		"the wrong one":        {q: Question{How: TCP, Family: 4, Target: s.tcp, Expect: []string{"other"}}, from: "127.0.0.1", err: "pod answered, not other"},
		"nobody":               {q: Question{How: TCP, Family: 4, Target: nobody(t)}, err: "refused"},
		"nobody, UDP":          {q: Question{How: UDP, Family: 4, Target: nobody(t)}, err: "refused"},
		"silence":              {q: Question{How: TCP, Family: 4, Target: mute(t, "")}, err: "the connection is made, then no answer within 500ms"},
		"somebody else":        {q: Question{How: TCP, Family: 4, Target: mute(t, "220 mail ESMTP\n")}, err: "is not NAME ADDRESS"},
		"large ones are lost":  {q: Question{How: Bulk, Family: 4, Target: mute(t, "pod 127.0.0.1:1\n")}, from: "127.0.0.1", err: "after 0 of 1048576 bytes: no answer within 2s"},
		"other bytes":          {q: Question{How: Bulk, Family: 4, Target: mute(t, "pod 127.0.0.1:1\n"+strings.Repeat("x", 1<<16))}, from: "127.0.0.1", err: "others than were sent"},
		"no such family":       {q: Question{How: TCP, Family: 6, Target: nobody(t)}, err: "no suitable address"},
		"unknown":              {q: Question{How: "smoke", Target: s.tcp}, unable: `does not know how to ask "smoke"`},
		"no environment":       {q: Question{How: HTTPS, Target: APIServer}, unable: "does not say where the API server is", err: "does not say"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			c.q.Wait = wait
			a := c.q.ask(t.Context())
			if a.From != c.from || (a.Error == "") != (c.err == "") || !strings.Contains(a.Error, c.err) || (a.Unable == "") != (c.unable == "") || !strings.Contains(a.Unable, c.unable) {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestEcho: the loopback interface answers, by either socket.
func TestEcho(t *testing.T) {
	for family, target := range map[int]string{4: "127.0.0.1", 6: "::1"} {
		q := Question{How: Echo, Family: family, Target: target, Wait: 5 * time.Second}
		a := q.ask(t.Context())
		if a.Unable != "" {
			t.Skip(a.Unable)
		}
		if a.Error != "" {
			t.Errorf("%s: %s", target, a.Error)
		}
	}
}

// TestSettle: an answer that comes later is one, and a wrong one is asked for again.
func TestSettle(t *testing.T) {
	address := nobody(t)
	q := Question{How: TCP, Family: 4, Target: address, Expect: []string{"late"}, Wait: time.Second, Settle: time.Minute}
	answers := make(chan Answer)
	go func() { answers <- q.ask(t.Context()) }()
	first, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	go func() { // the wrong one, until it was asked
		conn, err := first.Accept()
		_ = first.Close()
		if err == nil {
			_, _ = io.WriteString(conn, "early 127.0.0.1:1\n")
			_ = conn.Close()
		}
		close(asked)
	}()
	<-asked
	second, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	go func() { _ = AnswerTCP(second, "late") }()
	if a := <-answers; a.Error != "" {
		t.Errorf("%+v", a)
	}
}

func TestAskMany(t *testing.T) {
	s := listen(t)
	var questions []Question
	for i := range 3 * atATime {
		questions = append(questions, Question{ID: i, How: TCP, Family: 4, Target: s.tcp, Wait: 30 * time.Second})
	}
	in, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Ask(t.Context(), bytes.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	got := map[int]bool{}
	for lines := json.NewDecoder(&out); ; {
		var a Answer
		if err := lines.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if a.Error != "" {
			t.Errorf("%+v", a)
		}
		got[a.ID] = true
	}
	if len(got) != len(questions) {
		t.Errorf("%d answers", len(got))
	}
	if err := Ask(t.Context(), strings.NewReader("what?"), &out); err == nil || !strings.Contains(err.Error(), "read questions") {
		t.Errorf("%v", err)
	}
}

// TestServe: it ends when it is told to, and says why it cannot begin.
func TestServe(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(taken.Addr().String()).Port()
	if err := Serve(t.Context(), "pod", port); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
	_ = taken.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, "pod", port) }()
	q := Question{How: TCP, Wait: time.Second, Settle: time.Minute}
	q.Target = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
	if a := q.ask(t.Context()); a.Error != "" {
		t.Errorf("%+v", a)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("%v", err)
	}
}

func FuzzGreeting(f *testing.F) {
	for _, line := range []string{"pod 127.0.0.1:1\n", "pod [::1]:80", "", "HTTP/1.1 400 Bad Request", "pod 127.0.0.1"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		name, from, err := parseGreeting(line)
		if err != nil {
			return
		}
		addr, bad := netip.ParseAddr(from)
		if name == "" || bad != nil || addr.Is4In6() {
			t.Errorf("%q: %q, %q", line, name, from)
		}
	})
}
