// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/device/soft"
)

// inventory is all that there is, and how often.
type inventory map[string]int

func (i inventory) add(format string, args ...any) { i[fmt.Sprintf(format, args...)]++ }

// set notes a number under its name.
func (i inventory) set(n int, format string, args ...any) { i[fmt.Sprintf(format, args...)] = n }

// changes tells what is not as it was, one line for each thing.
func (i inventory) changes(after inventory) []string {
	var list []string
	both := maps.Clone(i)
	maps.Copy(both, after)
	for _, what := range slices.Sorted(maps.Keys(both)) {
		if was, is := i[what], after[what]; was != is {
			list = append(list, fmt.Sprintf("%s: %d, was %d", what, is, was))
		}
	}
	return list
}

// take counts everything that NetIO holds.
func (h *host) take(ctx context.Context) (inventory, error) {
	i := inventory{}
	for _, count := range []func(context.Context, inventory) error{
		h.countForwarder, h.countDevice, h.countAgent, h.countKernel, h.countFiles, h.countProcesses,
	} {
		if err := count(ctx, i); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func (h *host) countForwarder(ctx context.Context, i inventory) error {
	status, err := h.observation.Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return fmt.Errorf("ask the forwarder: %w", err)
	}
	i.set(int(status.GetConnections()), "forwarder: connections")
	i.set(int(status.GetPorts()), "forwarder: ports in Status")
	ports, err := h.observation.ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil {
		return fmt.Errorf("ask the forwarder: %w", err)
	}
	for _, p := range ports.GetPorts() {
		name := p.GetConfig().GetName()
		i.add("forwarder: port %s", name)
		i.set(int(p.GetNbufs()), "forwarder: nbufs of port %s", name)
		i.set(int(p.GetParkedBytes()), "forwarder: parked bytes of port %s", name)
		i.set(int(p.GetQueuePackets()), "forwarder: packets queued for port %s", name)
		i.set(int(p.GetConnections()), "forwarder: connections of port %s", name)
	}
	got, err := h.configuration.Get(ctx, &dataplanev1.GetRequest{})
	if err != nil {
		return fmt.Errorf("ask the forwarder: %w", err)
	}
	// Every port, route, address set, policy and translation, and its content.
	for _, p := range got.GetPorts() {
		i.add("configuration: port %s", text(p))
	}
	for _, p := range got.GetRoutes() {
		i.add("configuration: route %s", text(p))
	}
	for _, p := range got.GetAddressSets() {
		i.add("configuration: address set %s", text(p))
	}
	for _, p := range got.GetPolicies() {
		i.add("configuration: policy %s", text(p))
	}
	for _, p := range got.GetSourceNats() {
		i.add("configuration: source NAT %s", text(p))
	}
	for _, p := range got.GetDestinationNats() {
		i.add("configuration: destination NAT %s", text(p))
	}
	return nil
}

var spaces = regexp.MustCompile(`\s+`)

// text of a message; prototext itself varies its spaces from build to build.
func text(m proto.Message) string { return spaces.ReplaceAllString(prototext.Format(m), " ") }

// countDevice compares the soft device's own records with what the forwarder
// says that it holds: the rest is lost.
func (h *host) countDevice(ctx context.Context, i inventory) error {
	status, err := h.observation.Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return fmt.Errorf("ask the forwarder: %w", err)
	}
	if status.GetDevice() != "soft" {
		return nil
	}
	ledger, err := h.ledger()
	if err != nil {
		return err
	}
	i.set(ledger.Ports, "device: ports")
	i.set(ledger.Slots, "device: parked packets")
	i.set(ledger.Nbufs-int(status.GetNbufs()-status.GetNbufsFree()), "device: nbufs that nobody accounts for")
	return nil
}

func (h *host) ledger() (soft.Ledger, error) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.forwarder.Pid()))
	if err != nil {
		return soft.Ledger{}, err
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || !strings.HasPrefix(to, "/memfd:netio-state") {
			continue
		}
		f, err := os.Open(link)
		if err != nil {
			return soft.Ledger{}, fmt.Errorf("open the device's state: %w", err)
		}
		defer f.Close()
		return soft.ReadLedger(f)
	}
	return soft.Ledger{}, fmt.Errorf("supervisor %d holds no state of a device", h.forwarder.Pid())
}

func (h *host) countAgent(ctx context.Context, i inventory) error {
	info, err := h.info.Info(ctx, &agentv1.InfoRequest{})
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	i.set(int(info.GetEndpoints()), "agent: endpoints")
	for _, p := range info.GetPools() {
		i.set(int(p.GetUsed()), "agent: addresses leased of %s", p.GetCidr())
		i.set(int(p.GetCooling()), "agent: addresses cooling of %s", p.GetCidr())
	}
	for _, p := range info.GetProblems() {
		i.add("agent: problem %s: %s", p.GetSource(), p.GetMessage())
	}
	endpoints, err := h.info.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	for _, e := range endpoints.GetEndpoints() {
		i.add("agent: endpoint %s", e.GetId().GetContainerId())
	}
	return nil
}

// operState is the second word of `ip -brief`.
var operState = regexp.MustCompile(`^(\S+ +)(UP|UNKNOWN) +`)

// countKernel counts what the host's network namespace and its mounts hold.
func (h *host) countKernel(_ context.Context, i inventory) error {
	for _, command := range []string{
		"ip -brief link", "ip -brief address",
		"ip -4 route show table all", "ip -6 route show table all",
		"ip -4 rule", "ip -6 rule", "ip -4 neigh", "ip -6 neigh", "nft list ruleset",
	} {
		words := strings.Fields(command)
		out, err := h.ns.Output(words[0], words[1:]...)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			// Link-local addresses come up in their own time, and whether the
			// kernel says UP or UNKNOWN of a TUN depends on when it looked.
			if line = operState.ReplaceAllString(strings.TrimSpace(line), "$1"); !strings.Contains(line, "fe80::") {
				i.add("%s: %s", command, line)
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			i.add("mount: %s", fields[4])
		}
	}
	return nil
}

// countFiles counts what is in NetIO's folders and in the runtime's.
func (h *host) countFiles(_ context.Context, i inventory) error {
	for _, dir := range []string{runDir, stateDir, cniCacheDir, "/run/netns"} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !e.IsDir() {
				i.add("file: %s", path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("list files: %w", err)
		}
	}
	return nil
}

// numbers differ between things of a kind: "socket:[123]" is any socket.
var numbers = regexp.MustCompile(`\[[0-9]+\]`)

// countProcesses counts NetIO's processes and their open files by kind. A
// network namespace that is held open is one of those.
func (h *host) countProcesses(_ context.Context, i inventory) error {
	orphans, err := h.orphans()
	if err != nil {
		return err
	}
	i.set(len(orphans), "processes without parent")
	worker, err := h.worker()
	if err != nil {
		return err
	}
	for name, pid := range map[string]int{"agent": h.agent.Pid(), "supervisor": h.forwarder.Pid(), "worker": worker} {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(links) == 0 {
			return fmt.Errorf("list open files of %s, process %d: %w", name, pid, err)
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil {
				i.add("open files of %s: %s", name, numbers.ReplaceAllString(to, ""))
			}
		}
	}
	return nil
}

// threads of NetIO's processes. Go keeps those that it has once needed, so that
// their number is bounded rather than constant.
func (h *host) threads() (map[string]int, error) {
	worker, err := h.worker()
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for name, pid := range map[string]int{"agent": h.agent.Pid(), "supervisor": h.forwarder.Pid(), "worker": worker} {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return nil, fmt.Errorf("list threads of %s: %w", name, err)
		}
		counts[name] = len(tasks)
	}
	return counts, nil
}
