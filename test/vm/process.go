// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"netio.dev/netio/test/vm/control"
)

// Command is a program to run in a machine.
type Command struct {
	Args []string // Args[0] is found in the machine's PATH: /bin and /sbin
	Env  []string // NAME=value, added to the machine's
	Dir  string   // working directory; empty means /
	// Timeout is how long it may run; 0 is as long as the machine. A Go program
	// shows its stacks then.
	Timeout time.Duration
}

// Result of a program that has ended.
type Result struct {
	Code     int    // exit status; 128 and the signal's number after a signal
	Output   string // standard output and error
	TimedOut bool
}

// Err is nil if the program ended with status 0.
func (r Result) Err() error {
	switch {
	case r.TimedOut:
		return fmt.Errorf("timed out; its output:\n%s", r.Output)
	case r.Code != 0:
		return fmt.Errorf("exit status %d; its output:\n%s", r.Code, r.Output)
	}
	return nil
}

// Process is a program that was started in a machine.
type Process struct {
	m      *Machine
	id     int
	output strings.Builder // guarded by m.mu
	exit   chan control.Event
}

// Run runs a program to its end. The error is about the machine; that of the
// program is Result.Err.
func (m *Machine) Run(ctx context.Context, c Command) (Result, error) {
	p, err := m.Start(c)
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Start starts a program, and does not wait for it.
func (m *Machine) Start(c Command) (*Process, error) {
	return m.request(control.Request{
		Kind: control.Run, Args: c.Args, Env: c.Env, Dir: c.Dir, TimeoutMS: c.Timeout.Milliseconds(),
	})
}

// Wait for the end of the program. It is called once.
func (p *Process) Wait(ctx context.Context) (Result, error) {
	select {
	case e := <-p.exit:
		return p.result(e)
	case <-p.m.exited:
		select {
		case e := <-p.exit: // in the last moment
			return p.result(e)
		default:
		}
		return Result{Output: p.Output()}, p.m.died()
	case <-ctx.Done():
		return Result{Output: p.Output()}, fmt.Errorf("%w; %s", ctx.Err(), p.m.lastWords())
	}
}

func (p *Process) result(e control.Event) (Result, error) {
	r := Result{Code: e.Code, Output: p.Output(), TimedOut: e.TimedOut}
	if e.Error != "" {
		return r, fmt.Errorf("in the machine: %s", e.Error)
	}
	return r, nil
}

// Ended tells whether the program has ended; Wait tells how.
func (p *Process) Ended() bool { return len(p.exit) > 0 }

// Output is what the program has written up to now.
func (p *Process) Output() string {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.output.String()
}

// Signal sends a signal to the program and to those that it started.
func (p *Process) Signal(ctx context.Context, signal syscall.Signal) error {
	return p.m.perform(ctx, control.Request{Kind: control.Signal, Target: p.id, Number: int(signal)})
}

// Insert loads the module file (a path in the machine) with parameters of the
// form name=value.
func (m *Machine) Insert(ctx context.Context, file string, parameters ...string) error {
	return m.perform(ctx, control.Request{Kind: control.Insert, Args: append([]string{file}, parameters...)})
}

// Remove unloads a module.
func (m *Machine) Remove(ctx context.Context, module string) error {
	return m.perform(ctx, control.Request{Kind: control.Remove, Args: []string{module}})
}

// Exists is nil if the machine has that file.
func (m *Machine) Exists(ctx context.Context, file string) error {
	return m.perform(ctx, control.Request{Kind: control.Exists, Args: []string{file}})
}

// Write writes text to an existing file of the machine, such as a sysctl.
func (m *Machine) Write(ctx context.Context, file, text string) error {
	return m.perform(ctx, control.Request{Kind: control.Write, Args: []string{file, text}})
}

// Leaks has kmemleak look for lost memory; Check tells what it found. A
// kernel without kmemleak finds none.
func (m *Machine) Leaks(ctx context.Context) error {
	p, err := m.request(control.Request{Kind: control.Leaks})
	if err != nil {
		return err
	}
	result, err := p.Wait(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	for line := range strings.Lines(result.Output) {
		m.leaks = append(m.leaks, strings.TrimRight(line, "\n"))
	}
	return err
}

func (m *Machine) perform(ctx context.Context, r control.Request) error {
	p, err := m.request(r)
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}

func (m *Machine) request(r control.Request) (*Process, error) {
	p := &Process{m: m, exit: make(chan control.Event, 1)}
	m.mu.Lock()
	m.last++
	p.id, r.ID = m.last, m.last
	m.processes[p.id] = p
	m.mu.Unlock()
	return p, m.send(r)
}

func (m *Machine) send(r control.Request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// One write, so that concurrent requests do not mix.
	if _, err := m.line.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ask the machine: %w", err)
	}
	return nil
}

// readControl hands events to the processes they are about.
func (m *Machine) readControl() {
	for in := json.NewDecoder(bufio.NewReader(m.line)); ; {
		var e control.Event
		if in.Decode(&e) != nil {
			return
		}
		if e.Kind == control.Ready {
			m.ready <- e.Data
			continue
		}
		m.mu.Lock()
		p := m.processes[e.ID]
		if p != nil && e.Kind == control.Output {
			p.output.WriteString(e.Data)
		}
		if p != nil && e.Kind == control.Exit {
			delete(m.processes, e.ID)
			p.exit <- e
		}
		m.mu.Unlock()
		if e.Kind == control.Output {
			m.show(e.Data)
		}
	}
}
