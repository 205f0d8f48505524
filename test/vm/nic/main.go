// SPDX-License-Identifier: Apache-2.0

// Command nic is what tests of network cards run in a machine: a forwarder
// between one knet and one NIC, and programs that talk with each other.
//
//	nic forward FLAGS        forwards until it is killed; says "forwarding"
//	nic serve                answers UDP and TCP; says "serving"
//	nic talk ADDRESS [N]     sends to serve and checks the answers; by N
//	                         connections at once
//	nic flood ADDRESS TIME   sends small UDP packets for so long
//	nic errors FILE          prints counters of /proc/net/snmp or snmp6 that
//	                         tell of wrong packets, and are not zero
//	nic cat FILE             prints a file
//	nic link PATH            prints where a symbolic link leads
//	nic apply JSON           configures netio-agent forward, by an ApplyRequest
//	nic ports                prints its ports: name, number, up or down, error
//	nic replace              kills its worker, and waits for the next one
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: nic forward|serve|talk|flood")
	}
	var err error
	switch args := os.Args[2:]; os.Args[1] {
	case "forward":
		err = forward(args)
	case "serve":
		err = serve()
	case "talk":
		flows := 1
		if len(args) > 1 {
			if flows, err = strconv.Atoi(args[1]); err != nil {
				break
			}
		}
		err = talk(args[0], flows)
	case "flood":
		err = flood(args[0], args[1])
	case "apply":
		err = apply(args[0])
	case "ports":
		err = printPorts()
	case "replace":
		err = replace()
	case "errors":
		err = printErrors(args[0])
	case "cat":
		var text []byte
		text, err = os.ReadFile(args[0])
		os.Stdout.Write(text)
	case "link":
		var to string
		to, err = os.Readlink(args[0])
		fmt.Println(to)
	default:
		err = errors.New("unknown command")
	}
	if err != nil {
		log.Fatalf("%s: %v", os.Args[1], err)
	}
}

// port of serve.
const port = "7000"

// serve answers each UDP packet with the same, and a TCP stream with its hash.
func serve() error {
	udp, err := net.ListenPacket("udp", "[::]:"+port)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", "[::]:"+port)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				log.Fatal(err)
			}
			udp.WriteTo(b[:n], from)
		}
	}()
	fmt.Println("serving")
	for {
		c, err := tcp.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			h := sha256.New()
			if _, err := io.Copy(h, c); err == nil {
				c.Write(h.Sum(nil))
			}
		}()
	}
}

const (
	patience = 60 * time.Second
	stream   = 4 << 20 // bytes
)

func talk(address string, flows int) error {
	if err := talkUDP(address); err != nil {
		return fmt.Errorf("UDP: %w", err)
	}
	began := time.Now()
	errs := make(chan error)
	for range flows {
		go func() { errs <- talkTCP(address) }()
	}
	for range flows {
		if err := <-errs; err != nil {
			return fmt.Errorf("TCP: %w", err)
		}
	}
	fmt.Printf("%s: %.0f Mbit/s\n", address, float64(flows)*stream*8e-6/time.Since(began).Seconds())
	return nil
}

func pattern(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func talkUDP(address string) error {
	c, err := net.Dial("udp", net.JoinHostPort(address, port))
	if err != nil {
		return err
	}
	defer c.Close()
	got := make([]byte, 1<<16)
	// Up to what the largest MTU takes in one piece, and one that is fragmented.
	for _, n := range []int{1, 18, 100, 101, 1400, 1800, 1900, 4000, 8952 - 48, 20000} {
		want := pattern(n)
		// The first may be lost while neighbours find each other.
		for end := time.Now().Add(patience); ; {
			if _, err := c.Write(want); err != nil {
				return err
			}
			c.SetReadDeadline(time.Now().Add(2 * time.Second))
			m, err := c.Read(got)
			if err == nil && bytes.Equal(got[:m], want) {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("%d bytes: %w", n, err)
			}
		}
	}
	return nil
}

func talkTCP(address string) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	b := pattern(stream)
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if want := sha256.Sum256(b); !bytes.Equal(got, want[:]) {
		return errors.New("what arrived is not what was sent")
	}
	return nil
}

func flood(address, how string) error {
	d, err := time.ParseDuration(how)
	if err != nil {
		return err
	}
	c, err := net.Dial("udp", net.JoinHostPort(address, "9"))
	if err != nil {
		return err
	}
	defer c.Close()
	b, n := make([]byte, 18), 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range 64 {
			if _, err := c.Write(b); err == nil {
				n++
			}
		}
	}
	fmt.Printf("sent %d packets, %.0f a second\n", n, float64(n)/d.Seconds())
	return nil
}

// wrong are names of counters that no correct packet moves.
var wrong = regexp.MustCompile(`InCsumErrors|InHdrErrors|UdpInErrors|InErrs|Ip6InTruncatedPkts`)

func printErrors(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		// snmp has a line of names and a line of values, snmp6 has pairs.
		if len(f) == 2 && !strings.HasSuffix(f[0], ":") {
			report("", f[:1], f[1:])
			continue
		}
		if names == nil {
			names = f
			continue
		}
		report(f[0], names[1:], f[1:])
		names = nil
	}
	return nil
}

func report(what string, names, values []string) {
	for i, name := range names {
		if wrong.MatchString(name) && values[i] != "0" {
			fmt.Println(what, name, values[i])
		}
	}
}

// prefixes of a flag, separated by commas.
type prefixes []netip.Prefix

func (p *prefixes) String() string { return fmt.Sprint(*p) }

func (p *prefixes) Set(s string) error {
	for s := range strings.SplitSeq(s, ",") {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return err
		}
		*p = append(*p, prefix)
	}
	return nil
}

var _ flag.Value = (*prefixes)(nil)
