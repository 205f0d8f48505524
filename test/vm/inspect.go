// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// inspectTime bounds the wait for an answer of QEMU's monitor.
const inspectTime = 5 * time.Second

// inspect describes a machine that does nothing: what the threads of its process
// wait for, and where its CPUs are (nothing, if QEMU itself is stuck).
func (m *Machine) inspect() string {
	var b strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", m.cmd.Process.Pid))
	for _, task := range tasks {
		read := func(name string) string {
			text, err := os.ReadFile(filepath.Join(task, name))
			if err != nil {
				return err.Error()
			}
			return strings.TrimSpace(string(text))
		}
		fmt.Fprintf(&b, "thread %s\n\tsystem call %s\n\twaits in %s\n", read("stat"), read("syscall"), read("wchan"))
	}
	if m.monitor == nil {
		return b.String()
	}
	if err := ask(&b, m.monitor, "info registers -a", "info lapic 0", "info lapic 1", "info pic"); err != nil {
		fmt.Fprintf(&b, "ask QEMU: %v\n", err)
	}
	return b.String()
}

// ask gives QEMU's monitor commands, and writes what it says (QEMU Machine
// Protocol, "human-monitor-command").
func ask(w io.Writer, monitor *os.File, commands ...string) error {
	if err := monitor.SetDeadline(time.Now().Add(inspectTime)); err != nil {
		return err
	}
	type arguments map[string]string
	type request struct {
		Execute   string    `json:"execute"`
		Arguments arguments `json:"arguments,omitempty"`
	}
	requests := []request{{Execute: "qmp_capabilities"}}
	for _, c := range commands {
		requests = append(requests, request{"human-monitor-command", arguments{"command-line": c}})
	}
	to, from := json.NewEncoder(monitor), json.NewDecoder(monitor)
	for _, r := range requests {
		if err := to.Encode(r); err != nil {
			return err
		}
		for {
			// A greeting, events, and the answer.
			var answer struct {
				Return any             `json:"return"`
				Error  json.RawMessage `json:"error"`
			}
			if err := from.Decode(&answer); err != nil {
				return err
			}
			if answer.Error != nil {
				return fmt.Errorf("%s: %s", r.Execute, answer.Error)
			}
			if answer.Return == nil {
				continue
			}
			if text, ok := answer.Return.(string); ok {
				fmt.Fprintln(w, strings.ReplaceAll(text, "\r", ""))
			}
			break
		}
	}
	return nil
}
