// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// host is what a dump tells of the machine beside NetIO's own processes.
type host struct {
	root string // of its files, "/"
	// run writes a command's output; its error has what the command complains of.
	run func(ctx context.Context, w io.Writer, name string, args ...string) error
}

// hostFiles are files of a dump, and what is in them. None of them has secrets; the kernel's
// command line may, and is left out.
var hostFiles = []struct {
	name  string
	globs []string
}{
	{"host/kernel.txt", []string{
		"proc/version", "proc/sys/kernel/tainted", "proc/uptime", "proc/loadavg", "proc/meminfo", "sys/devices/system/cpu/online", "etc/os-release",
	}},
	{"host/module.txt", []string{
		"sys/module/netio/initstate", "sys/module/netio/version", "sys/module/netio/srcversion", "sys/module/netio/taint",
		"sys/module/netio/refcnt", "sys/module/netio/parameters/*",
	}},
	{"host/sysctls.txt", []string{
		"proc/sys/net/ipv4/ip_forward", "proc/sys/net/ipv4/conf/*/forwarding", "proc/sys/net/ipv4/conf/*/accept_local", "proc/sys/net/ipv4/conf/*/rp_filter",
		"proc/sys/net/ipv6/conf/*/forwarding", "proc/sys/net/ipv6/conf/*/accept_ra", "proc/sys/net/ipv6/conf/*/disable_ipv6",
	}},
	{"host/counters.txt", []string{"proc/net/dev", "proc/net/softnet_stat", "proc/net/snmp", "proc/net/snmp6", "proc/net/netstat"}},
}

// hostCommands are files of a dump, and the commands whose output is in them.
var hostCommands = []struct{ name, command string }{
	{"host/links.txt", "ip -details -statistics link show"},
	{"host/addresses.txt", "ip address show"},
	{"host/routes4.txt", "ip -4 route show table all"},
	{"host/routes6.txt", "ip -6 route show table all"},
	{"host/rules4.txt", "ip -4 rule show"},
	{"host/rules6.txt", "ip -6 rule show"},
	{"host/neighbours.txt", "ip neighbour show"},
	{"host/nftables.txt", "nft list table inet netio"},
}

func (h *host) parts(agentConfig string) []dumpPart {
	parts := []dumpPart{{"agent/config.yaml", func(_ context.Context, w io.Writer) error {
		data, err := os.ReadFile(filepath.Join(h.root, agentConfig))
		if err != nil {
			return fmt.Errorf("%w; --agent-config says where it is", err)
		}
		_, err = w.Write(data)
		return err
	}}}
	for _, f := range hostFiles {
		parts = append(parts, dumpPart{f.name, func(_ context.Context, w io.Writer) error { return h.files(w, f.globs) }})
	}
	for _, c := range hostCommands {
		parts = append(parts, dumpPart{c.name, func(ctx context.Context, w io.Writer) error {
			words := strings.Fields(c.command)
			return h.run(ctx, w, words[0], words[1:]...)
		}})
	}
	return parts
}

// files writes each file under its name. Those that are not there, or cannot be
// read, are left out; none at all is an error.
func (h *host) files(w io.Writer, globs []string) error {
	found := false
	for _, glob := range globs {
		names, err := filepath.Glob(filepath.Join(h.root, glob))
		if err != nil {
			return err
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			found = true
			shown := "/" + strings.TrimPrefix(strings.TrimPrefix(name, h.root), "/")
			separator := " = "
			if bytes.Count(data, []byte("\n")) > 1 {
				separator = ":\n"
			}
			if _, err := fmt.Fprintf(w, "%s%s%s\n", shown, separator, bytes.TrimRight(data, "\n")); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("there is no /%s", globs[0])
	}
	return nil
}

// runCommand is host.run on this machine.
func runCommand(ctx context.Context, w io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	complaint := &boundedBuffer{limit: 512}
	cmd.Stdout, cmd.Stderr = w, complaint
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if said, _, _ := strings.Cut(complaint.content.String(), "\n"); said != "" {
		return fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return fmt.Errorf("%s: %w", name, err)
}
