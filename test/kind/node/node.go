// SPDX-License-Identifier: Apache-2.0

// Package node is a cluster's machines: processes in namespaces of their own,
// under a supervisor.
//
//	supervisor: new mount, PID, network namespaces       10.89.0.1
//	  │         ── bridge fabric ──┬──────────────┬──
//	  ├─ node n1: PID 1 of new mount, PID, network, UTS, IPC, cgroup namespaces
//	  │    ├─ etcd, kube-apiserver, kube-controller-manager, kube-scheduler     (n1 only)
//	  │    ├─ containerd ── pods          /  a tmpfs: the machine's /usr, read-only;
//	  │    └─ kubelet, kube-proxy            /etc of its own; /var on disk
//	  └─ node n2 ...
//
// The kernel ends all processes of a PID namespace with its first one, and frees
// mounts, interfaces and network namespaces with their last user: whatever
// happens to the supervisor, nothing stays but empty cgroups and files.
package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

// insideVar is set for the second stage of a node.
const insideVar = "NETIO_NODE_INSIDE"

// machine is a node from within.
type machine struct {
	topology.Node
	dir    state.Dir
	record *state.Record
	all    []topology.Node
	reaper *reaper
}

// Init is the first process of a node. It returns only if the node cannot be
// brought up.
func Init(dir state.Dir, name string) error {
	record, err := dir.Load()
	if err != nil {
		return err
	}
	nodes, err := topology.Nodes(record.Nodes, record.Families)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(nodes, func(n topology.Node) bool { return n.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no node %s", name)
	}
	m := &machine{Node: nodes[i], dir: dir, record: record, all: nodes}
	if os.Getenv(insideVar) == "" {
		return m.enterCgroups()
	}
	_ = os.Unsetenv(insideVar)
	return fmt.Errorf("node %s: %w", name, m.run())
}

// enterCgroups is the first stage: the root of a cgroup namespace is where the
// process is that makes it, and a namespace is made for a thread alone, so that
// the second stage is a new program.
func (m *machine) enterCgroups() error {
	for _, parent := range m.record.Cgroups {
		if err := enterCgroup(filepath.Join(parent, m.Name)); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make cgroup namespace: %w", err)
	}
	err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), insideVar+"=1"))
	return fmt.Errorf("start again: %w", err)
}

// run brings the node up and keeps it so: it returns with an error only.
func (m *machine) run() error {
	if err := unix.Sethostname([]byte(m.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := m.enterRoot(); err != nil {
		return err
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	if err := m.configureNetwork(); err != nil {
		return err
	}
	m.reaper = newReaper()
	return m.serve()
}

// raiseFileLimit to the most that is allowed. Go passes the limit that a process
// had at its start on to its children, unless it was set.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

// program finds a program that comes with the cluster.
func program(name string) string { return filepath.Join(binDir, name) }

// command is one that runs on the node and is waited for.
func (m *machine) command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = Environment()
	return m.reaper.output(cmd)
}

// Environment of everything on a node: nothing of the caller's.
func Environment() []string {
	return []string{"PATH=" + binDir + ":" + netioDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
}
