// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/cniconf"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/hostnet"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/agent/socket"
	"netio.dev/netio/pkg/agent/sysctl"
)

// UninstallOptions say what is there.
type UninstallOptions struct {
	// Config of agent and forwarder. Its RunDir and StateDir are theirs alone.
	Config *config.Config
	// CacheDir is what else is NetIO's alone, "" for nothing.
	CacheDir string
	// HostNetNS and SysctlDir are HostNetNS and Sysctls as in Options.
	HostNetNS string
	SysctlDir sysctl.Dir
	// UnloadModule takes the kernel module out of the kernel, nil if it is to stay.
	UnloadModule func() error
}

// Uninstall removes all that NetIO has made on the host: what Cleanup does, and the
// interfaces of pods, which are cut off, the forwarder's files, caches and the kernel
// module. Agent and forwarder must not run: ErrInUse. What is gone already is no error,
// and what could not be removed can be tried again: the records of it stay so long.
func Uninstall(o UninstallOptions) error {
	c := o.Config
	lock, err := socket.Acquire(c.Socket)
	if err != nil {
		return err
	}
	defer lock.Release()
	if conn, err := net.Dial("unix", c.ForwarderSocket); err == nil {
		return errors.Join(fmt.Errorf("%w: a forwarder serves %s; stop it first", ErrInUse, c.ForwarderSocket), conn.Close())
	}
	// Nobody is to get a pod's interface any more.
	if c.InstallCNI != nil {
		if err := cniconf.Remove(c); err != nil {
			return err
		}
	}
	host := &hostnet.Host{NetNS: o.HostNetNS, Sysctls: o.SysctlDir, SysctlRecord: filepath.Join(c.StateDir, sysctlFile)}
	if err := errors.Join(detachAll(c), host.Remove(hostnet.Config{IfName: c.HostInterface}), host.RestoreSysctls()); err != nil {
		return err
	}
	if o.UnloadModule != nil {
		if err := o.UnloadModule(); err != nil {
			return fmt.Errorf("unload the kernel module: %w", err)
		}
	}
	var errs []error
	for _, dir := range []string{c.StateDir, o.CacheDir, c.RunDir} {
		if dir == "" {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove NetIO's files: %w", err))
		}
	}
	return errors.Join(errs...)
}

// detachAll removes the interfaces of all pods.
func detachAll(c *config.Config) error {
	store, err := attachment.Open(filepath.Join(c.StateDir, attachmentsDir))
	if err != nil {
		return err
	}
	all, _, _ := store.Load() // damaged records are of no pod that we could name
	var errs []error
	for _, a := range all {
		if err := podnet.Remove(a.NetNS, a.NetNSID, a.IfName); err != nil {
			errs = append(errs, fmt.Errorf("pod %s/%s: %w", a.Namespace, a.Name, err))
		}
	}
	return errors.Join(errs...)
}
