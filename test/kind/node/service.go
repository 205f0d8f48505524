// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// service is a program that runs as long as the node, with its output in
// /var/log/NAME.log.
type service struct {
	name string
	path string
	args []string
}

// restartPause is between an end and the next start, so that what fails at once
// does not take the CPU from what it waits for.
const restartPause = 300 * time.Millisecond

// keep starts a service, and again whenever it has ended.
func (m *machine) keep(s service) error {
	log, err := os.OpenFile(filepath.Join(logDir, s.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	run := func() (string, error) {
		cmd := exec.Command(s.path, s.args...)
		cmd.Args[0] = s.name // of many that are one program
		cmd.Env = Environment()
		cmd.Stdout, cmd.Stderr = log, log
		ended, err := m.reaper.start(cmd)
		if err != nil {
			return "", fmt.Errorf("start %s: %w", s.name, err)
		}
		return describe(<-ended), nil
	}
	go func() {
		for {
			what, err := run()
			if err != nil {
				what = err.Error()
			}
			fmt.Fprintf(log, "node: %s %s; starting it again\n", s.name, what)
			time.Sleep(restartPause)
		}
	}()
	return nil
}

// poll is how often a condition is looked at that nobody announces.
const poll = 20 * time.Millisecond

// awaitSocket waits until somebody listens on a unix socket.
func awaitSocket(path string, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(poll) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nobody listens after %v: %w", patience, err)
		}
	}
}
