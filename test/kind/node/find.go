// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"netio.dev/netio/test/internal/daemon"
)

// ErrNotRunning is returned for a node that has no process.
var ErrNotRunning = errors.New("node does not run")

// Pid is the process ID, on this machine, of a node's first process, by which its
// namespaces are found. Errors: ErrNotRunning.
func Pid(supervisor int, name string) (int, error) {
	children, err := daemon.Children(supervisor)
	if err != nil {
		return 0, err
	}
	for _, pid := range children {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil {
			continue // ended meanwhile
		}
		if args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0}); len(args) == 4 &&
			string(args[1]) == InitCommand && string(args[3]) == name {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrNotRunning, name)
}

// machinePid is the process ID on this machine of a child of the supervisor, by
// the ID that it has for the supervisor, whose /proc is the machine's still.
func machinePid(child int) (int, error) {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, fmt.Errorf("find own process: %w", err)
	}
	supervisor, err := strconv.Atoi(self)
	if err != nil {
		return 0, fmt.Errorf("find own process: %w", err)
	}
	children, err := daemon.Children(supervisor)
	if err != nil {
		return 0, err
	}
	for _, pid := range children {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			continue // ended meanwhile
		}
		if ids := pidsOf(status); len(ids) > 1 && ids[1] == child {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%w: process %d", ErrNotRunning, child)
}

// pidsOf reads the IDs of a process from proc_pid_status(5): that of the
// namespace in which /proc is read first, then those of the inner ones.
func pidsOf(status []byte) []int {
	for line := range strings.Lines(string(status)) {
		text, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		var ids []int
		for _, field := range strings.Fields(text) {
			id, err := strconv.Atoi(field)
			if err != nil {
				return nil
			}
			ids = append(ids, id)
		}
		return ids
	}
	return nil
}
