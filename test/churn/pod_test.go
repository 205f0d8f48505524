// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

// pod is a network namespace that was attached.
type pod struct {
	attachment
	ns   *netlab.Namespace
	addr netip.Addr
	sink net.Listener
	// leaving is set before anything is taken away from it.
	leaving atomic.Bool
	ctx     context.Context
	gone    context.CancelFunc
}

// Ports of a pod. Nobody listens on the second.
const (
	sinkPort   = 5001
	closedPort = 5002
)

func newPod(id, colour string) (*pod, error) {
	ns, err := netlab.New(id)
	if err != nil {
		return nil, err
	}
	p := &pod{attachment: attachment{id: id, netns: ns.Path, colour: colour}, ns: ns}
	p.ctx, p.gone = context.WithCancel(context.Background())
	return p, nil
}

// serve takes what others send, until the pod is closed.
func (p *pod) serve() error {
	err := p.ns.Do(func() (err error) {
		p.sink, err = net.Listen("tcp4", fmt.Sprint(":", sinkPort))
		return err
	})
	if err != nil {
		return fmt.Errorf("listen in %s: %w", p.id, err)
	}
	go func() {
		for {
			conn, err := p.sink.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(p.ctx, func() { _ = conn.Close() })
			go func() {
				defer conn.Close()
				defer stop()
				n, _ := io.Copy(io.Discard, conn)
				_, _ = fmt.Fprint(conn, n)
			}()
		}
	}()
	return nil
}

// close ends the pod's processes and its namespace.
func (p *pod) close() error {
	p.gone()
	var err error
	if p.sink != nil {
		err = p.sink.Close()
	}
	return errors.Join(err, p.ns.Close())
}

// links are the pod's interfaces but lo.
func (p *pod) links() ([]string, error) {
	links, err := p.ns.Netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces of %s: %w", p.id, err)
	}
	var names []string
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" {
			names = append(names, l.Type()+" "+name)
		}
	}
	return names, nil
}

// ping waits for one answer; of the echo requests some may be lost.
func (p *pod) ping(to netip.Addr) error {
	_, err := p.ns.Output("ping", "-n", "-c", "1", "-i", "0.2", "-w", fmt.Sprint(int(patience.Seconds())), to.String())
	return err
}

// flood sends datagrams that nobody reads, some of them fragmented.
func (p *pod) flood(to netip.Addr) error {
	var conn net.Conn
	err := p.ns.Do(func() (err error) {
		conn, err = net.Dial("udp4", netip.AddrPortFrom(to, closedPort).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	for n := range 64 {
		// The answers are refusals; that they come is not at issue.
		_, _ = conn.Write(make([]byte, 100*(1+n%40)))
	}
	return nil
}

// transferBytes are enough for packets with parked payload.
const transferBytes = 512 << 10

// transfer sends to another pod's sink, and wants to hear that all arrived.
func (p *pod) transfer(to *pod) error {
	var conn net.Conn
	dialer := net.Dialer{Timeout: patience}
	err := p.ns.Do(func() (err error) {
		conn, err = dialer.DialContext(to.ctx, "tcp4", netip.AddrPortFrom(to.addr, sinkPort).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(to.ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(make([]byte, transferBytes)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && string(answer) != fmt.Sprint(transferBytes) {
		err = fmt.Errorf("%q of %d bytes arrived", answer, transferBytes)
	}
	return err
}
