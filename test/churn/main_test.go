// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"netio.dev/netio/test/internal/sandbox"
)

var (
	podCount = flag.Int("pods", 150, "how many pods to add and remove")
	seed     = flag.Uint64("seed", 1, "of what happens, and when")
	device   = flag.String("device", "auto", "NetIO `device`: auto, soft or kernel")
)

// binVar tells the inside of the sandbox where the programs are.
const binVar = "NETIO_CHURN_BIN"

// TestMain runs all tests inside a sandbox. The programs are built outside of
// it, where there may be a network.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	// Under the race detector each process would sleep a second as it ends.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	if os.Getenv(binVar) != "" {
		os.Exit(sandbox.Run(m.Run))
	}
	os.Exit(outside(m))
}

func outside(m *testing.M) int {
	dir, err := os.MkdirTemp("", "netio-churn-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		return 1
	}
	if err := os.Setenv(binVar, dir); err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		return 1
	}
	return sandbox.Run(m.Run)
}

// build builds the programs as the Makefile does, in its build cache.
func build(dir string) error {
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"netio.dev/netio/cmd/netio-agent", "netio.dev/netio/cmd/netio-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}
