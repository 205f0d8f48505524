// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"netio.dev/netio/test/kind/cluster"
	"netio.dev/netio/test/kind/state"
)

// patience is how long a condition may take to come about.
const patience = 2 * time.Minute

// insideVar is set once the process is in the cluster's network.
const insideVar = "NETIO_E2E_INSIDE"

// The cluster under test, and its API server.
var (
	under  *cluster.Cluster
	client *kubernetes.Clientset
	config *rest.Config
)

// scale is whether tests run that take the whole machine, for minutes.
var scale = flag.Bool("scale", false, "run the tests of what a cluster can be asked for, too")

func TestMain(m *testing.M) {
	dir := flag.String("cluster", "", "`folder` of the cluster that is up")
	flag.Parse()
	if *dir == "" {
		fmt.Println("no -cluster: nothing to test; see make cluster-e2e")
		return
	}
	if err := open(state.Dir(*dir)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	if code != 0 {
		fmt.Println("logs of the nodes:", under.Dir.Log())
	}
	os.Exit(code)
}

func open(dir state.Dir) (err error) {
	if under, err = cluster.Open(dir); err != nil {
		return fmt.Errorf("%w; make cluster-up brings one up", err)
	}
	if os.Getenv(insideVar) == "" {
		return enter(under.FabricNetNS())
	}
	client, config, err = under.Client()
	return err
}

// enter starts this program anew in a network namespace: what executes commands
// in pods does not let the caller make its connections.
func enter(netns string) error {
	ns, err := os.Open(netns)
	if err != nil {
		return fmt.Errorf("open the cluster's network: %w", err)
	}
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the cluster's network: %w", err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), insideVar+"=1"))
}

// await waits until a condition holds. A failure says what the condition last
// complained of.
func await(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not after %v: %v", what, patience, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
