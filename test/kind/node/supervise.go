// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

// bridge is the fabric's interface, in the supervisor's network namespace.
const bridge = "fabric"

// SuperviseCommand and InitCommand are the first arguments by which the program
// is started as a supervisor or a node.
const (
	SuperviseCommand = "supervise"
	InitCommand      = "init"
)

// Start starts the supervisor, which starts the nodes, and returns without
// waiting for anything. Its output is in the log folder.
func Start(dir state.Dir) (*exec.Cmd, error) {
	if err := os.MkdirAll(dir.Log(), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of logs: %w", err)
	}
	log, err := os.Create(filepath.Join(dir.Log(), "supervisor.log"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", SuperviseCommand, string(dir))
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces: %w; is this a container that may not?", err)
	}
	return cmd, nil
}

// Supervise is the supervisor: it makes the fabric and the nodes, and lives until
// it is killed or a node ends, which would leave half a cluster.
func Supervise(dir state.Dir) error {
	record, err := dir.Load()
	if err != nil {
		return err
	}
	nodes, err := topology.Nodes(record.Nodes, record.Families)
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w; in a chroot, mount --bind its folder onto itself before you enter it", err)
	}
	fabric, err := makeFabric()
	if err != nil {
		return err
	}
	ended := make(chan error)
	for _, n := range nodes {
		if err := startNode(dir, n, fabric, ended); err != nil {
			return err
		}
	}
	return <-ended
}

func makeFabric() (*netlab.Namespace, error) {
	fabric, err := netlab.Here()
	if err != nil {
		return nil, err
	}
	if err := fabric.Up("lo"); err != nil {
		return nil, err
	}
	if err := fabric.Bridge(bridge); err != nil {
		return nil, err
	}
	for _, a := range topology.Fabric {
		if err := fabric.Up(bridge, topology.Prefix(a)); err != nil {
			return nil, err
		}
	}
	return fabric, nil
}

// startNode starts a node and connects it to the fabric. That the node ended is
// said on ended.
func startNode(dir state.Dir, n topology.Node, fabric *netlab.Namespace, ended chan<- error) error {
	cmd := exec.Command("/proc/self/exe", InitCommand, string(dir), n.Name)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// Its cgroup namespace it makes itself, once it is in its cgroup.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	go func() {
		ended <- errors.Join(fmt.Errorf("node %s ended", n.Name), cmd.Wait())
	}()
	// The supervisor's /proc is the machine's, where the node has another number.
	// Not by its command line: it has none while it becomes its second stage.
	pid, err := machinePid(cmd.Process.Pid)
	if err != nil {
		return err
	}
	inside, err := netlab.Open(n.Name, "/proc/"+strconv.Itoa(pid)+"/ns/net")
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := netlab.Connect(fabric, n.Name, inside, uplink); err != nil {
		return err
	}
	return fabric.Enslave(bridge, n.Name)
}
