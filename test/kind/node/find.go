// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

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

// machinePid is the same from within the supervisor, whose /proc is the
// machine's still.
func machinePid(name string) (int, error) {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, fmt.Errorf("find own process: %w", err)
	}
	supervisor, err := strconv.Atoi(self)
	if err != nil {
		return 0, fmt.Errorf("find own process: %w", err)
	}
	return Pid(supervisor, name)
}
