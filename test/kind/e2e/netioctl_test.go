// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// netioctl runs it as an administrator does on a machine that is no node.
func netioctl(ctx context.Context, dir string, args ...string) (string, error) {
	program, err := filepath.Abs(filepath.Join(source, "bin/netioctl"))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--kubeconfig", under.Kubeconfig()}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("netioctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// TestNetioctl: from outside of the nodes it tells of all of them.
func TestNetioctl(t *testing.T) {
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "asks", first)
	startPod(t, namespace, "answers", last)
	asks, answers := awaitPod(t, namespace, "asks"), awaitPod(t, namespace, "answers")
	dir := t.TempDir()
	from, to := namespace+"/"+asks.name, namespace+"/"+answers.name
	for _, c := range []struct {
		args string
		want []string
	}{
		{"status", []string{first.Name, last.Name, "soft"}},
		{"--node " + last.Name + " status", []string{"Forwarder", "Agent", last.Name + ", cluster"}},
		{"--node " + last.Name + " endpoints", []string{namespace, answers.addrs[0].String()}},
		{"--node " + first.Name + " ports", []string{from}},
		{"policy explain " + from + " " + to + ":8080", []string{"allow"}},
		{"trace " + from + " " + to + ":8080", []string{first.Name, last.Name, to}},
		{"--node " + last.Name + " version", []string{"agent"}},
	} {
		out, err := netioctl(t.Context(), dir, strings.Fields(c.args)...)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("netioctl %s: no %q in\n%s", c.args, want, out)
			}
		}
		if strings.Contains(out, "Error") {
			t.Errorf("netioctl %s complains:\n%s", c.args, out)
		}
	}

	// A stream, which ends with the command.
	ctx, cancel := context.WithCancel(t.Context())
	program := exec.CommandContext(ctx, filepath.Join(source, "bin/netioctl"), "--kubeconfig", under.Kubeconfig(), "--node", last.Name, "monitor", "--port", to, "-o", "json")
	program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
	program.WaitDelay = 10 * time.Second
	seen, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan error, 1)
	go func() {
		_, err := seen.Read(make([]byte, 1))
		lines <- err
	}()
	await(t, "a verdict is seen", func(ctx context.Context) error {
		if _, err := asks.reach(ctx, answers.targets()...); err != nil {
			return err
		}
		select {
		case err := <-lines:
			return err
		default:
			return fmt.Errorf("nothing yet")
		}
	})
	cancel()
	_ = program.Wait()

	if _, err := netioctl(t.Context(), dir, "sysdump"); err != nil {
		t.Error(err)
	}
	dumps, err := filepath.Glob(filepath.Join(dir, "netio-sysdump-*.tar.gz"))
	if err != nil || len(dumps) != len(under.Nodes) {
		t.Errorf("dumps %v, %v", dumps, err)
	}
	if out, err := netioctl(t.Context(), dir, "--node", "nowhere", "status"); err == nil || !strings.Contains(out, "node nowhere has no agent") {
		t.Errorf("a node that is not there: %v, %s", err, out)
	}
}
