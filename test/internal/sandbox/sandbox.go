// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs a program in namespaces of its own, so that whatever it
// does to "the host" it does to one that vanishes with it.
//
//	program (watcher)              the real host: sees nothing but a process
//	  │ clone: new net, mount, pid, uts namespaces
//	  └─ program (init, pid 1)     private mounts: /proc, tmpfs on /run
//	       └─ program (the inside) does the work, starts daemons
//
// The kernel kills every process of a pid namespace with its init, and
// frees a network namespace with its last user: nothing stays behind, whether
// the inside ends, crashes or is killed. The watcher passes signals on, kills
// what does not heed them, and looks for left-overs after the end.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stageVar = "NETIO_SANDBOX"    // which of the three processes this is
	nameVar  = "NETIO_SANDBOX_ID" // marks all processes of one sandbox

	stageInit   = "init"
	stageInside = "inside"
)

// grace is how long the inside may take to clean up after a signal.
const grace = 30 * time.Second

// Run calls inside in a sandbox and returns the exit status for os.Exit: what
// inside returned, or 1 with a message on standard error if the sandbox could
// not be made or left something behind. It needs root. The arguments and the
// environment of the process are the same inside; Run must be called early in
// main, since main runs anew there.
func Run(inside func() int) int {
	switch os.Getenv(stageVar) {
	case stageInside:
		_ = os.Unsetenv(stageVar)
		return inside()
	case stageInit:
		return runInit()
	}
	status, err := watch()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	return status
}

// watch starts the init of a new sandbox and sees it through.
func watch() (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("network namespaces need root; run as root")
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())

	// Pdeathsig is sent when the thread dies that made the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := again(stageInit, nameVar+"="+id)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
		Setpgid:    true, // signals of the terminal come to the watcher alone
		Pdeathsig:  unix.SIGKILL,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}

	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var late <-chan time.Time
	for {
		select {
		case s := <-signals:
			if late != nil {
				_ = cmd.Process.Kill() // asked twice
				continue
			}
			_ = cmd.Process.Signal(s)
			late = time.After(grace)
		case <-late:
			_ = cmd.Process.Kill()
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, fmt.Errorf("wait for the sandbox: %w", err)
			}
			return exitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus)), leftOvers(id)
		}
	}
}

// runInit is pid 1 of the sandbox: it makes the private mounts, starts the
// inside, reaps orphans and ends with the inside.
func runInit() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	if err := privateMounts(); err != nil {
		return fail(err)
	}
	if err := unix.Sethostname([]byte("netio-host")); err != nil {
		return fail(fmt.Errorf("set host name: %w", err))
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)

	cmd := again(stageInside)
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fail(fmt.Errorf("wait: %w", err))
		case pid == cmd.Process.Pid:
			return exitStatus(ws)
		}
	}
}

// privateMounts needs / to be a mount point, which in a chroot it need not be;
// without that the mounts would reach the host.
func privateMounts() error {
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			if m.target == "/" && errors.Is(err, unix.EINVAL) {
				return errors.New("/ is no mount point, so mounts cannot be made private; in a chroot, mount --bind its folder onto itself before you enter it")
			}
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// again is this program, with these arguments, as another stage.
func again(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), stageVar+"="+stage), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
