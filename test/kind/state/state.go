// SPDX-License-Identifier: Apache-2.0

// Package state knows where a cluster's things lie, and keeps a record of what
// the machine has to be freed of when the cluster ends, however it ends.
//
//	build/cluster/
//	  bin/ images/ debian/   what was built: kept between clusters
//	  run/                   of the running cluster: record.json, pki/, a folder for each node's /var
//	  log/                   of the running or the last cluster, a folder for each node
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/atomicfile"

	"netio.dev/netio/test/kind/topology"
)

var (
	// ErrNone is returned if there is no record: nothing is to be freed.
	ErrNone = errors.New("no cluster is up")
	// ErrBusy is returned if another process works on the folder.
	ErrBusy = errors.New("another cluster-up or cluster-down is at work")
)

// Dir is the cluster's folder, absolute.
type Dir string

// Bin has programs, Images the archives of images, Debian unpacked packages.
func (d Dir) Bin() string    { return filepath.Join(string(d), "bin") }
func (d Dir) Images() string { return filepath.Join(string(d), "images") }
func (d Dir) Debian() string { return filepath.Join(string(d), "debian") }

// SuiteImages has images that nodes do not import when they start: those of the
// Kubernetes end-to-end suite.
func (d Dir) SuiteImages() string { return filepath.Join(d.Images(), "suite") }

// Run has what only lives as long as a cluster.
func (d Dir) Run() string             { return filepath.Join(string(d), "run") }
func (d Dir) PKI() string             { return filepath.Join(d.Run(), "pki") }
func (d Dir) Node(name string) string { return filepath.Join(d.Run(), "nodes", name) }

// Log has the supervisor's log, NodeLog what is /var/log on a node.
func (d Dir) Log() string                { return filepath.Join(string(d), "log") }
func (d Dir) NodeLog(name string) string { return filepath.Join(d.Log(), name) }

// SuiteLog has what the last run of the Kubernetes end-to-end suite reported.
func (d Dir) SuiteLog() string { return filepath.Join(d.Log(), "suite") }

func (d Dir) record() string { return filepath.Join(d.Run(), "record.json") }

// Record is what must be known of a cluster to end it.
type Record struct {
	Nodes int
	// KubeProxy: kube-proxy serves what is not the pods'; else NetIO does.
	KubeProxy bool
	// Tunnel: the network between the nodes knows no pods.
	Tunnel bool
	// Families of the cluster's addresses.
	Families topology.Families
	// NetIO is the folder of netio-agent and its company.
	NetIO string
	// Pid of the supervisor, with the time it started in the kernel's words, so
	// that no other process is taken for it. 0 until it runs.
	Pid     int
	Started string
	// Cgroups are the folders, one in each hierarchy, that the nodes' are in.
	Cgroups []string
	// Sysctls that were changed, named with slashes.
	Sysctls map[string]Sysctl
}

// Sysctl is a changed kernel parameter.
type Sysctl struct {
	Was, Is string
}

// Load reads the record. Errors: ErrNone.
func (d Dir) Load() (*Record, error) {
	data, err := os.ReadFile(d.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's record: %w", err)
	}
	r := new(Record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read the cluster's record %s: %w", d.record(), err)
	}
	return r, nil
}

// Save replaces the record.
func (d Dir) Save(r *Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(d.Run(), 0o755)
	}
	if err == nil {
		err = atomicfile.Write(d.record(), append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the cluster's record: %w", err)
	}
	return nil
}

// Lock keeps others from working on the folder until the file is closed, or the
// process ends. Errors: ErrBusy.
func (d Dir) Lock() (*os.File, error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, fmt.Errorf("make the cluster's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(string(d), "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the cluster's folder: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w in %s; wait for it", ErrBusy, d)
	}
	return nil, fmt.Errorf("lock the cluster's folder: %w", err)
}

// Alive tells whether the supervisor runs.
func (r *Record) Alive() bool {
	started, err := StartTime(r.Pid)
	return r.Pid > 0 && err == nil && started == r.Started
}

// StartTime of a process, in clock ticks since boot: field 22 of
// proc_pid_stat(5). A process that has ended and not been waited for has none.
func StartTime(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", fmt.Errorf("find process: %w", err)
	}
	// The second field, in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}
