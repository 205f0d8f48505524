// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"netio.dev/netio/test/internal/netlab"
)

// child is a process that runs this program.
type child struct {
	args   string
	cmd    *exec.Cmd
	out    *os.File
	stderr bytes.Buffer
}

func startChild(ns *netlab.Namespace, args ...string) (*child, error) {
	c := &child{args: strings.Join(args, " ")}
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c.out = out
	c.cmd = exec.Command("/proc/self/exe", args...)
	c.cmd.Stdout, c.cmd.Stderr = theirs, &c.stderr
	if err := ns.Start(c.cmd); err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", c.args, err)
	}
	return c, nil
}

// ready waits until the child has printed something: that it is ready.
func (c *child) ready() error {
	if _, err := c.out.Read(make([]byte, 1)); err != nil {
		return errors.Join(fmt.Errorf("%s: not ready: %w", c.args, err), c.wait())
	}
	return nil
}

func (c *child) wait() error {
	defer c.out.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", c.args, err, strings.TrimSpace(c.stderr.String()))
	}
	return nil
}

// kill ends the child, however it was.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.wait()
}
