// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"netio.dev/netio/pkg/agent/atomicfile"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/cniconf"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/hostnet"
	"netio.dev/netio/pkg/agent/socket"
	"netio.dev/netio/pkg/agent/sysctl"
	"netio.dev/netio/pkg/cni/pending"
)

// ErrInUse is returned by Cleanup while something needs what it would remove.
var ErrInUse = errors.New("still in use")

// CleanupOptions say what to remove.
type CleanupOptions struct {
	ConfigFile string
	// Force removes it though pods are attached or the forwarder runs.
	Force bool
	// State also removes leases and attachments, and Files in stateDir, which are
	// the source's.
	State bool
	Files []string
	// Sysctls also puts forwarding and the like back as they were.
	Sysctls bool
	// HostNetNS and SysctlDir are HostNetNS and Sysctls as in Options.
	HostNetNS string
	SysctlDir sysctl.Dir
}

// Cleanup removes what the agent has made on the host: interface, addresses,
// routes, the nftables table, and the CNI plugin and network if the agent has
// installed them. The agent must not run. What is gone already is no error.
func Cleanup(o CleanupOptions) error {
	data, err := config.Read(o.ConfigFile, config.Example)
	if err != nil {
		return err
	}
	// Whichever the agent was, with prefixes or without.
	c, err := config.ParseNode(o.ConfigFile, data)
	if err != nil {
		c, err = config.Parse(o.ConfigFile, data)
	}
	if err != nil {
		return err
	}
	lock, err := socket.Acquire(c.Socket)
	if err != nil {
		return err
	}
	defer lock.Release()
	if !o.Force {
		if err := inUse(c); err != nil {
			return err
		}
	}
	host := &hostnet.Host{NetNS: o.HostNetNS, Sysctls: o.SysctlDir, SysctlRecord: filepath.Join(c.StateDir, sysctlFile)}
	errs := []error{host.Remove(hostnet.Config{IfName: c.HostInterface})}
	if c.InstallCNI != nil {
		errs = append(errs, cniconf.Remove(c))
	}
	if o.Sysctls {
		errs = append(errs, host.RestoreSysctls())
	}
	if o.State {
		errs = append(errs, o.removeState(c))
	}
	return errors.Join(errs...)
}

// inUse reports pods that would be cut off.
func inUse(c *config.Config) error {
	var errs []error
	if conn, err := net.Dial("unix", c.ForwarderSocket); err == nil {
		conn.Close()
		errs = append(errs, fmt.Errorf("%w: a forwarder serves %s; stop it first, or use --force", ErrInUse, c.ForwarderSocket))
	}
	dir := filepath.Join(c.StateDir, attachmentsDir)
	if _, err := os.Stat(dir); err == nil {
		store, err := attachment.Open(dir)
		if err != nil {
			return err
		}
		all, _, _ := store.Load() // damaged records are of no pod that we could name
		for _, a := range all {
			errs = append(errs, fmt.Errorf("%w: pod %s/%s is attached; stop it first, or use --force", ErrInUse, a.Namespace, a.Name))
		}
	}
	return errors.Join(errs...)
}

// removeState removes the agent's own files, and the folder if it is empty
// then.
func (o *CleanupOptions) removeState(c *config.Config) error {
	errs := []error{
		os.RemoveAll(filepath.Join(c.StateDir, attachmentsDir)),
		os.RemoveAll(pending.Dir(c.StateDir)),
	}
	for _, name := range append([]string{leasesFile, sysctlFile}, o.Files...) {
		errs = append(errs, atomicfile.Remove(filepath.Join(c.StateDir, name)))
	}
	// Not empty is no error: there are files that are not ours.
	_ = os.Remove(filepath.Dir(pending.Dir(c.StateDir)))
	_ = os.Remove(c.StateDir)
	return errors.Join(errs...)
}
