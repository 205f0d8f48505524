// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

// answerPatience bounds a ping and a TCP exchange that are to succeed;
// cutOffPatience one that is to fail.
const (
	answerPatience = 5 * time.Second
	cutOffPatience = time.Second
)

// place is somebody who can be reached.
type place struct {
	name string
	ns   *netlab.Namespace
	v4   netip.Addr
	v6   netip.Addr
}

func (d *demo) places() []place {
	list := []place{{"host", d.host, address(hostAddrs, false), address(hostAddrs, true)}}
	for _, p := range d.pods {
		list = append(list, place{p.name, p.ns, address(p.addr, false), address(p.addr, true)})
	}
	return list
}

// pairs calls f at once for every ordered pair of places and each family.
func (d *demo) pairs(f func(from, to place, addr netip.Addr) error) (int, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	count := 0
	for _, from := range d.places() {
		for _, to := range d.places() {
			if from.name == to.name {
				continue
			}
			for _, addr := range []netip.Addr{to.v4, to.v6} {
				count++
				wg.Go(func() {
					if err := f(from, to, addr); err != nil {
						mu.Lock()
						defer mu.Unlock()
						errs = append(errs, fmt.Errorf("%s to %s (%s): %w", from.name, to.name, addr, err))
					}
				})
			}
		}
	}
	wg.Wait()
	return count, errors.Join(errs...)
}

func (d *demo) pingAll(context.Context) (string, error) {
	n, err := d.pairs(func(from, _ place, addr netip.Addr) error { return ping(from.ns, addr) })
	return fmt.Sprintf("%d pings, IPv4 and IPv6", n), err
}

func ping(from *netlab.Namespace, to netip.Addr) error {
	_, err := from.Output("ping", "-n", "-c", "1", "-W", fmt.Sprint(int(answerPatience.Seconds())), to.String())
	return err
}

func (d *demo) connectAll(context.Context) (string, error) {
	n, err := d.pairs(func(from, to place, addr netip.Addr) error {
		seen, err := exchange(from.ns, to.ns, netip.AddrPortFrom(addr, 0), answerPatience)
		if err != nil {
			return err
		}
		// Nobody's address is changed on the way, except that the host has
		// two: its own and the pods' gateway.
		if seen != from.v4 && seen != from.v6 && from.name != "host" {
			return fmt.Errorf("came from %s, not from its own address", seen)
		}
		return nil
	})
	return fmt.Sprintf("%d connections, IPv4 and IPv6", n), err
}

// reachWorld proves the masquerade too: the world has no route to pods, and
// must see the host's address.
func (d *demo) reachWorld(context.Context) (string, error) {
	var errs []error
	for _, p := range d.pods {
		for i, addr := range worldAddr {
			if err := ping(p.ns, addr.Addr()); err != nil {
				errs = append(errs, err)
				continue
			}
			seen, err := exchange(p.ns, d.world, netip.AddrPortFrom(addr.Addr(), 0), answerPatience)
			if err == nil && seen != hostAddrs[i].Addr() {
				err = fmt.Errorf("the world saw %s; expected the host's %s", seen, hostAddrs[i].Addr())
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s to the world (%s): %w", p.name, addr.Addr(), err))
			}
		}
	}
	return fmt.Sprintf("ping and TCP; the world sees %s and %s", hostAddrs[0].Addr(), hostAddrs[1].Addr()), errors.Join(errs...)
}

// exchange opens a TCP connection from one namespace to an address in another,
// sends a line and awaits its echo. It returns the source address that the
// listener saw. Port 0 is any free one.
func exchange(from, to *netlab.Namespace, address netip.AddrPort, patience time.Duration) (netip.Addr, error) {
	var listener *net.TCPListener
	err := to.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
		return err
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("listen: %w", err)
	}
	defer listener.Close()
	deadline := time.Now().Add(patience)

	type arrival struct {
		from netip.Addr
		err  error
	}
	arrived := make(chan arrival, 1)
	go func() {
		_ = listener.SetDeadline(deadline)
		conn, err := listener.AcceptTCP()
		if err != nil {
			arrived <- arrival{err: err}
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(deadline)
		buf := make([]byte, len(greeting))
		_, err = io.ReadFull(conn, buf)
		if err == nil {
			_, err = conn.Write(buf)
		}
		arrived <- arrival{conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), err}
	}()

	var conn net.Conn
	err = from.Do(func() (err error) {
		dialer := net.Dialer{Deadline: deadline}
		conn, err = dialer.Dial("tcp", listener.Addr().String())
		return err
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, greeting); err != nil {
		return netip.Addr{}, fmt.Errorf("send: %w", err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(greeting))); err != nil {
		return netip.Addr{}, fmt.Errorf("await the echo: %w", err)
	}
	a := <-arrived
	return a.from, a.err
}

const greeting = "hello from a pod\n"
