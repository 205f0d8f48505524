// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

// serve greets with the pod's name and the address that the question came from:
// on TCP in a first line, after which it echoes; on UDP in answer to any datagram.
func serve(port string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- answerUDP(udp, name) }()
	go func() { ended <- answerTCP(tcp, name) }()
	return <-ended
}

func answerUDP(conn net.PacketConn, name string) error {
	question := make([]byte, 2048)
	for {
		_, from, err := conn.ReadFrom(question)
		if err != nil {
			return err
		}
		// Who gets no answer asks again.
		_, _ = conn.WriteTo([]byte(greeting(name, from)), from)
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
