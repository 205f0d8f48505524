// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// The test binary is the sandboxed program: this variable tells what to do.
const doVar = "NETIO_SANDBOX_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(doVar) != "" {
		os.Exit(Run(inside))
	}
	// Under the race detector each process would sleep a second as it ends.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

func inside() int {
	switch os.Getenv(doVar) {
	case "look":
		links, _ := net.Interfaces()
		runs, _ := os.ReadDir("/run")
		fmt.Printf("links=%d run=%d parent=%d\n", len(links), len(runs), os.Getppid())
		return 7
	case "orphan":
		// A grandchild that ignores what its parents do.
		out, err := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
		fmt.Printf("orphan %s %v\n", strings.TrimSpace(string(out)), err)
		return 0
	case "signal":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT)
		fmt.Println("ready")
		<-signals
		fmt.Println("cleaned")
		return 3
	case "hang":
		fmt.Println("ready")
		select {}
	}
	return 99
}

func start(t *testing.T, do string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), doVar+"="+do)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

func TestInsideSeesAnotherHost(t *testing.T) {
	cmd, out := start(t, "look")
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got, want := string(text), "links=1 run=0 parent=1\n"; got != want {
		t.Errorf("inside saw %q, want %q", got, want)
	}
	if got := cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("exit status %d, want that of the inside, 7", got)
	}
}

func TestOrphansEndWithTheSandbox(t *testing.T) {
	cmd, out := start(t, "orphan")
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v after %q", err, text)
	}
	// That nothing is left was checked by the watcher itself: status 0.
}

func TestSignalsReachTheInside(t *testing.T) {
	cmd, out := start(t, "signal")
	if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatal(line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if string(rest) != "cleaned\n" || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("inside said %q and ended with %d, want cleaned and 3", rest, cmd.ProcessState.ExitCode())
	}
}

func TestWatcherKilled(t *testing.T) {
	cmd, out := start(t, "hang")
	if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatal(line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The pipe ends when the last process of the sandbox is gone.
	if _, err := io.ReadAll(out); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}
