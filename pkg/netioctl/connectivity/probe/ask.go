// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// repeatUDP is after how long a datagram is taken for lost.
const repeatUDP = time.Second

// AskTCP returns who greets and the address that it saw, and has it echo so many bytes. ctx
// has a deadline.
func AskTCP(ctx context.Context, network, target string, bytes int64) (name, from string, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, target)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return "", "", err
		}
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", "", &stalled{"the connection is made, then", err}
	}
	if name, from, err = parseGreeting(line); err != nil || bytes == 0 {
		return name, from, err
	}
	return name, from, echoed(conn, r, bytes)
}

// echoed sends so many bytes, and compares what comes back. from reads from conn.
func echoed(conn io.Writer, from io.Reader, size int64) error {
	seed := [32]byte{1}
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(conn, rand.NewChaCha8(seed), size)
		sent <- err
	}()
	want, got, gave := rand.NewChaCha8(seed), make([]byte, 1<<16), make([]byte, 1<<16)
	for at := int64(0); at < size; {
		k := min(int64(len(got)), size-at)
		if n, err := io.ReadFull(from, got[:k]); err != nil {
			return &stalled{fmt.Sprintf("after %d of %d bytes:", at+int64(n), size), err}
		}
		if _, err := io.ReadFull(want, gave[:k]); err != nil {
			return err
		}
		if !bytes.Equal(got[:k], gave[:k]) {
			return fmt.Errorf("among the %d bytes after %d came others than were sent", k, at)
		}
		at += k
	}
	return <-sent
}

// AskUDP returns who greets and the address that it saw. It asks again while no answer
// comes. ctx has a deadline.
func AskUDP(ctx context.Context, network, target string) (name, from string, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, target)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	answer := make([]byte, 2048)
	for {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", "", err
		}
		next := time.Now().Add(repeatUDP)
		if next.After(end) {
			next = end
		}
		if err := conn.SetReadDeadline(next); err != nil {
			return "", "", err
		}
		n, err := conn.Read(answer)
		if err == nil {
			return parseGreeting(string(answer[:n]))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || next.Equal(end) {
			return "", "", err
		}
	}
}

// parseGreeting takes a greeting apart.
func parseGreeting(line string) (name, from string, err error) {
	words := strings.Fields(line)
	if len(words) != 2 {
		return "", "", fmt.Errorf("answer %q is not NAME ADDRESS", line)
	}
	at, err := netip.ParseAddrPort(words[1])
	if err != nil {
		return "", "", fmt.Errorf("answer %q: %w", line, err)
	}
	return words[0], at.Addr().Unmap().String(), nil
}

func open(ctx context.Context, network, target string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, target)
	if err != nil {
		return err
	}
	return conn.Close()
}

// request is content with any answer, a refusal included: it brings no credentials.
func request(ctx context.Context, network, target string) error {
	if target == APIServer {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return unable("the pod's environment does not say where the API server is")
		}
		target = net.JoinHostPort(host, port)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // is anybody there?
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+target+"/livez", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// unable is why a question cannot be asked.
type unable string

func (u unable) Error() string { return string(u) }

// stalled is an error of a connection that is made.
type stalled struct {
	where string
	err   error
}

func (s *stalled) Error() string { return s.where + " " + s.err.Error() }
func (s *stalled) Unwrap() error { return s.err }

// explain says in few words what an error is; or why the question could not be asked.
func explain(err error, wait time.Duration) (text, cannot string) {
	var u unable
	if errors.As(err, &u) {
		return string(u), string(u)
	}
	var dns *net.DNSError
	var timeout net.Error
	prefix := ""
	if s := (*stalled)(nil); errors.As(err, &s) {
		prefix = s.where + " "
	}
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("no address for the name %s: %s", dns.Name, dnsWhy(dns)), ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%sno answer within %v", prefix, wait), ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return prefix + "refused", ""
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return prefix + "the connection was cut", ""
	case errors.Is(err, syscall.EHOSTUNREACH):
		return prefix + "no route to the host, says a router or the pod's kernel", ""
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return prefix + "the pod has no route there", ""
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return prefix + "forbidden, says the kernel or a router", ""
	}
	return err.Error(), ""
}

// dnsWhy leaves out what is said already.
func dnsWhy(e *net.DNSError) string {
	switch {
	case e.IsTimeout && e.Server != "":
		return "the DNS server " + e.Server + " does not answer"
	case e.IsNotFound:
		return "DNS does not know it"
	case e.Server != "":
		return e.Err + " (DNS server " + e.Server + ")"
	}
	return e.Err
}
