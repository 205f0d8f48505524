// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// reapVar makes the test binary the parent whose children are all reaped: in the
// test's own process that would take children from others.
const reapVar = "NETIO_TEST_REAP"

func TestMain(m *testing.M) {
	if os.Getenv(reapVar) == "" {
		os.Exit(m.Run())
	}
	r := newReaper()
	// Children of nobody, and more than one at a time.
	for range 20 {
		if _, err := r.start(exec.Command("true")); err != nil {
			panic(err)
		}
	}
	out, err := r.output(exec.Command("sh", "-c", "echo out; echo err >&2; exit 3"))
	if err == nil || out != "out\nerr\n" {
		panic(out)
	}
	os.Stdout.WriteString(err.Error())
	if _, err := r.output(exec.Command("true")); err != nil {
		panic(err)
	}
	if _, err := r.output(exec.Command("/none")); err == nil {
		panic("a program that is not there")
	}
}

func TestReaper(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), reapVar+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "ended with status 3: out\nerr") {
		t.Errorf("%s", out)
	}
}
