// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/vm/control"
)

// ErrDied says that a machine ended though nobody asked it to.
var ErrDied = errors.New("the machine died")

// ErrStuck says that a machine did not come to its first program.
var ErrStuck = errors.New("the machine is stuck in its boot")

// Config of a machine. Only Series and Init must be set.
type Config struct {
	Series Series
	Init   string // the program of test/vm/guest, on the host

	CPUs    int      // 0 means 2; User Mode Linux has 1
	Memory  int      // MiB; 0 means 512
	Modules []string // of the kernel, loaded at boot with what they need; nil means CommonModules
	Files   []File
	Wires   []Wire   // network interfaces, eth0 and on
	Append  string   // to the kernel's command line
	QEMU    []string // more arguments for QEMU

	// Timeout is how long the machine may live; 0 means twenty minutes. BootTimeout
	// is how long of it the boot may take; 0 means four.
	Timeout, BootTimeout time.Duration
	// Ignore matches lines of the kernel's log that are no complaints, in a test
	// that provokes them; nil for none.
	Ignore *regexp.Regexp
	// Output has what kernel and programs say, as they say it; nil for none.
	Output io.Writer
}

// Machine is a kernel that runs. Its methods may be called concurrently.
type Machine struct {
	config Config
	dir    string // temporary
	cmd    *exec.Cmd
	line   *os.File // control
	// monitor is QEMU's, nil in User Mode Linux.
	monitor *os.File
	exited  chan struct{}
	cancel  context.CancelFunc

	output sync.Mutex // guards config.Output

	mu        sync.Mutex // guards all below
	log       []string
	leaks     []string
	last      int // request ID
	processes map[int]*Process
	ready     chan string
	powerOff  bool
}

// Boot starts a machine, and returns when it is ready to run programs. Who
// boots it ends it with Shutdown or Kill.
//
// An emulated machine that is stuck is described and started once more: about one
// boot in a thousand stands still with nothing in its kernel that is under test.
func Boot(ctx context.Context, c Config) (*Machine, error) {
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Memory == 0 {
		c.Memory = 512
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Minute
	}
	if c.BootTimeout == 0 {
		c.BootTimeout = 4 * time.Minute
	}
	if c.Modules == nil {
		c.Modules = CommonModules
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	m, err := boot(ctx, c)
	if errors.Is(err, ErrStuck) && !c.Series.UML {
		fmt.Fprintf(c.Output, "%v\nstarted once more\n", err)
		m, err = boot(ctx, c)
	}
	return m, err
}

func boot(ctx context.Context, c Config) (*Machine, error) {
	dir, err := os.MkdirTemp("", "netio-vm-")
	if err != nil {
		return nil, err
	}
	m := &Machine{
		config: c, dir: dir, exited: make(chan struct{}),
		processes: map[int]*Process{}, ready: make(chan string, 1),
	}
	initramfs := filepath.Join(dir, "initramfs")
	err = writeInitramfs(initramfs, c.Init, c.Series, c.Modules, c.Files)
	if err == nil {
		err = m.start(initramfs)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	late := time.NewTimer(c.BootTimeout)
	defer late.Stop()
	select {
	case release := <-m.ready:
		if release != c.Series.Release {
			m.Kill()
			return nil, fmt.Errorf("%s: booted %s, want %s", c.Series.Name, release, c.Series.Release)
		}
		return m, nil
	case <-m.exited:
		m.Kill()
		return nil, fmt.Errorf("boot %s: %w", c.Series.Release, m.died())
	case <-late.C:
		state := m.inspect()
		m.Kill()
		return nil, fmt.Errorf("boot %s: %w after %v; %s\n%s", c.Series.Release, ErrStuck, c.BootTimeout, m.lastWords(), state)
	case <-ctx.Done():
		m.Kill()
		return nil, fmt.Errorf("boot %s: %w; %s", c.Series.Release, ctx.Err(), m.lastWords())
	}
}

func (m *Machine) start(initramfs string) error {
	line, control, err := socketPair("control")
	if err != nil {
		return err
	}
	m.line = line
	defer control.Close()
	files := []*os.File{control}
	if !m.config.Series.UML {
		ours, theirs, err := socketPair("monitor")
		if err != nil {
			return err
		}
		m.monitor = ours
		defer theirs.Close()
		files = append(files, theirs)
	}

	ctx, cancel := context.WithTimeout(context.Background(), m.config.Timeout)
	m.cancel = cancel
	args, err := commandLine(m.config, m.dir, initramfs)
	if err != nil {
		cancel()
		return err
	}
	m.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	// User Mode Linux keeps its memory in a file there, without a name.
	m.cmd.Env = append(os.Environ(), "TMPDIR=/dev/shm")
	m.cmd.ExtraFiles = files
	for _, wire := range m.config.Wires {
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, wire.queues...)
		if wire.line != nil {
			m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, wire.line)
		}
	}
	// No machine outlives the test.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if m.config.Series.UML {
		// It has processes for its programs, which end with the namespace's first.
		m.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	}
	m.cmd.WaitDelay = 5 * time.Second
	console, err := m.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return err
	}
	m.cmd.Stderr = m.cmd.Stdout
	if err := m.cmd.Start(); err != nil {
		cancel()
		return fmt.Errorf("start the machine: %w", err)
	}
	logged := make(chan struct{})
	go func() {
		m.readConsole(console)
		close(logged)
	}()
	go m.readControl()
	go func() {
		<-logged
		m.cmd.Wait()
		cancel()
		close(m.exited)
	}()
	return nil
}

// socketPair returns our end, and that of the machine.
func socketPair(name string) (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	// Not blocking, so that closing it ends a read.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, nil, fmt.Errorf("set up a socket pair: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), name), os.NewFile(uintptr(pair[1]), name), nil
}

// readConsole keeps the kernel's log.
func (m *Machine) readConsole(console io.Reader) {
	in := bufio.NewReader(console)
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			m.mu.Lock()
			m.log = append(m.log, line)
			m.mu.Unlock()
			m.show(line + "\n")
		}
		if err != nil {
			return
		}
	}
}

func (m *Machine) show(text string) {
	m.output.Lock()
	defer m.output.Unlock()
	io.WriteString(m.config.Output, text)
}

// Log returns what the kernel has said up to now, a line each.
func (m *Machine) Log() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

// Check is nil if the kernel has complained of nothing up to now; see Reports.
func (m *Machine) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := append(slices.Clone(m.log), m.leaks...)
	if m.config.Ignore != nil {
		log = slices.DeleteFunc(log, m.config.Ignore.MatchString)
	}
	return check(log)
}

// Shutdown looks for leaks (in a kernel that can), powers the machine off, and
// returns what the kernel complained of in all its life.
func (m *Machine) Shutdown(ctx context.Context) error {
	defer m.Kill()
	if err := m.Leaks(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.powerOff = true
	m.mu.Unlock()
	if err := m.send(control.Request{Kind: control.PowerOff}); err != nil {
		return err
	}
	select {
	case <-m.exited:
		return m.Check()
	case <-ctx.Done():
		return errors.Join(m.Check(), fmt.Errorf("power off: %w; %s", ctx.Err(), m.lastWords()))
	}
}

// Kill ends the machine at once, if it is there still.
func (m *Machine) Kill() {
	m.cancel()
	<-m.exited
	m.line.Close()
	if m.monitor != nil {
		m.monitor.Close()
	}
	os.RemoveAll(m.dir)
}

// died describes the end of a machine that ended by itself.
func (m *Machine) died() error {
	return errors.Join(fmt.Errorf("%w; %s", ErrDied, m.lastWords()), m.Check())
}

func (m *Machine) lastWords() string {
	log := m.Log()
	return "its last words:\n" + strings.Join(log[max(0, len(log)-20):], "\n")
}
