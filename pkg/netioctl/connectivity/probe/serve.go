// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Serve greets with a name and the address that the question came from, until ctx ends:
// on TCP in a first line, after which it echoes; on UDP in answer to any datagram, from
// the address that it was sent to, which on a node is one of many. The error says why it
// cannot.
func Serve(ctx context.Context, name string, port uint16) error {
	at := ":" + strconv.Itoa(int(port))
	sockets := &closers{}
	defer sockets.close()
	ended := make(chan error, 3)
	for network, answer := range map[string]func(net.PacketConn, string) error{"udp4": AnswerUDP4, "udp6": AnswerUDP6} {
		udp, err := net.ListenPacket(network, at)
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		sockets.add(udp)
		go func() { ended <- answer(udp, name) }()
	}
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	sockets.add(tcp)
	go func() { ended <- AnswerTCP(tcp, name) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	}
}

type closers []io.Closer

func (c *closers) add(one io.Closer) { *c = append(*c, one) }

func (c *closers) close() {
	for _, one := range *c {
		_ = one.Close()
	}
}

// AnswerUDP4 answers at an IPv4 socket until that fails.
func AnswerUDP4(socket net.PacketConn, name string) error {
	conn := ipv4.NewPacketConn(socket)
	if err := conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return err
	}
	question := make([]byte, 2048)
	for {
		_, to, from, err := conn.ReadFrom(question)
		if err != nil {
			return err
		}
		// Who gets no answer asks again.
		_, _ = conn.WriteTo([]byte(greeting(name, from)), &ipv4.ControlMessage{Src: to.Dst}, from)
	}
}

// AnswerUDP6 answers at an IPv6 socket until that fails.
func AnswerUDP6(socket net.PacketConn, name string) error {
	conn := ipv6.NewPacketConn(socket)
	if err := conn.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return err
	}
	question := make([]byte, 2048)
	for {
		_, to, from, err := conn.ReadFrom(question)
		if err != nil {
			return err
		}
		_, _ = conn.WriteTo([]byte(greeting(name, from)), &ipv6.ControlMessage{Src: to.Dst}, from)
	}
}

// AnswerTCP answers connections, and echoes, until the listener fails.
func AnswerTCP(l net.Listener, name string) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, greeting(name, conn.RemoteAddr())); err == nil {
				_, _ = io.Copy(conn, conn)
			}
		}()
	}
}

func greeting(name string, from net.Addr) string { return fmt.Sprintf("%s %s\n", name, from) }
