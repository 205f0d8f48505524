// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// serve greets with the pod's name and the address that the question came from:
// on TCP in a first line, after which it echoes; on UDP in answer to any
// datagram, from the address that it was sent to, which on a node is one of many.
func serve(port string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	udp4, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	udp6, err := net.ListenPacket("udp6", ":"+port)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- answerUDP4(udp4, name) }()
	go func() { ended <- answerUDP6(udp6, name) }()
	go func() { ended <- answerTCP(tcp, name) }()
	return <-ended
}

func answerUDP4(socket net.PacketConn, name string) error {
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

func answerUDP6(socket net.PacketConn, name string) error {
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

func answerTCP(l net.Listener, name string) error {
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
