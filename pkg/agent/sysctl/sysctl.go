// SPDX-License-Identifier: Apache-2.0

// Package sysctl reads and writes the sysctls of a network namespace: that of the
// calling thread, whatever the folder's mount is of (the kernel's
// Documentation/networking/ip-sysctl.rst).
package sysctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Default is where sysctls of the network are.
const Default Dir = "/proc/sys/net"

// Dir is a folder of sysctls, "" for Default. In a container Default is read-only,
// and the agent's pod has the node's elsewhere.
type Dir string

// Path is the file of a sysctl, whose name has slashes: "ipv4/ip_forward".
func (d Dir) Path(name string) string {
	if d == "" {
		d = Default
	}
	return filepath.Join(string(d), name)
}

// Read returns a sysctl's value. The error of one that is not there is fs.ErrNotExist.
func (d Dir) Read(name string) (string, error) {
	data, err := os.ReadFile(d.Path(name))
	return strings.TrimSpace(string(data)), err
}

// Write sets a sysctl, unless it has the value already.
func (d Dir) Write(name, value string) error {
	if is, err := d.Read(name); err == nil && is == value {
		return nil
	}
	if err := os.WriteFile(d.Path(name), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl net.%s to %s: %w; set it yourself if %s is read-only here",
			strings.ReplaceAll(name, "/", "."), value, err, d.Path(""))
	}
	return nil
}
