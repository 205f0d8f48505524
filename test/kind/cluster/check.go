// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrMachine is returned for a machine that cannot hold a cluster.
var ErrMachine = errors.New("this machine cannot hold a cluster")

// Check finds out what a machine lacks to hold a cluster, before anything is begun.
// netio is the folder of NetIO's programs. Error: ErrMachine, one for each thing.
func Check(netio string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: namespaces and mounts need root; run as root", ErrMachine)
	}
	var errs []error
	missing := func(what, do string) { errs = append(errs, fmt.Errorf("%w: %s; %s", ErrMachine, what, do)) }

	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return fmt.Errorf("read file systems: %w", err)
	}
	if !slices.Contains(strings.Fields(string(filesystems)), "overlay") {
		missing("the kernel has no overlayfs, which containerd needs", "modprobe overlay")
	}
	for path, do := range map[string]string{
		"/dev/net/tun": "modprobe tun, or give the container that device",
		"/dev/kmsg":    "give the container that device: kubelet reads it",
	} {
		if f, err := os.Open(path); err != nil {
			missing(err.Error(), do)
		} else {
			_ = f.Close()
		}
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			missing("the kernel has no "+ns+" namespaces", "boot one that has")
		}
	}
	if out, err := exec.Command("nft", "list", "tables").CombinedOutput(); err != nil {
		missing(fmt.Sprintf("nft does not work: %v %s", err, strings.TrimSpace(string(out))), "run hack/bootstrap.sh, modprobe nf_tables")
	}
	for _, name := range []string{"netio-agent", "netio-operator", "netio-cni", "netioctl"} {
		if _, err := os.Stat(filepath.Join(netio, name)); err != nil {
			missing(err.Error(), "make build, or name the folder with --netio")
		}
	}
	return errors.Join(errs...)
}
