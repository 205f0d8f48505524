// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"netio.dev/netio/pkg/netioctl/remote"
)

// TestRelay: what goes in comes to the socket, and the answer comes out.
func TestRelay(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		question := make([]byte, 4)
		if _, err := io.ReadFull(conn, question); err == nil {
			_, _ = conn.Write(append([]byte("answer to "), question...))
		}
	}()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, write := io.Pipe()
	defer in.Close()
	go func() { _, _ = write.Write([]byte("this")) }()
	var out bytes.Buffer
	if err := relay(conn, in, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != remote.Greeting+"answer to this" {
		t.Errorf("%q", got)
	}
}

func TestRelayWithoutSocket(t *testing.T) {
	b := newBed(t, nil, false)
	if code := b.do(t, "relay", filepath.Join(b.dir, "none.sock")); code != exitError || !strings.Contains(b.errOut.String(), "has no socket at") {
		t.Errorf("exit code %d, %q", code, b.errOut.String())
	}
}

// TestWhichCluster: flags that mean a cluster lead to one, or say how.
func TestWhichCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for args, want := range map[string]string{
		"--node n1 status":               "find the cluster",
		"--kubeconfig /none/x status":    "/none/x",
		"--context c ports":              "say --kubeconfig FILE",
		"--node n1 policy explain a b:1": "find the cluster",
	} {
		b := newBed(t, goldenForwarder(), true)
		if code := b.do(t, strings.Fields(args)...); code != exitError || !strings.Contains(b.errOut.String(), want) {
			t.Errorf("%s: exit code %d, %q", args, code, b.errOut.String())
		}
	}
}

// TestWhichNode: what needs a node's daemons says so.
func TestWhichNode(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	b.cluster = &remote.Cluster{}
	_, err := b.dialer("x")
	var usage *usageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "--node NODE") {
		t.Errorf("%v", err)
	}
}
