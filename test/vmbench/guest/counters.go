// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// counters of a topology over a time. Those of a forwarder are of all its threads.
type counters struct {
	packets, bytes     uint64 // that pods have sent
	forwarded          bool   // by a process
	syscalls, switches uint64
	copied             uint64
	copyCounted        bool
}

// values are those per million packets, and per packet.
func (c counters) values() map[string]float64 {
	v := map[string]float64{"bytes_per_packet": float64(c.bytes) / float64(c.packets)}
	if c.forwarded {
		v["syscalls"] = 1e6 * float64(c.syscalls) / float64(c.packets)
		v["switches"] = 1e6 * float64(c.switches) / float64(c.packets)
	}
	if c.copyCounted {
		v["copied"] = float64(c.copied) / float64(c.packets)
	}
	return v
}

// watch counts what happens during f. Threads must not come or go.
func watch(t topology, p pair, f func() error) (c counters, err error) {
	pid, err := t.forwarder()
	if err != nil {
		return c, err
	}
	stop := func() (uint64, error) { return 0, nil }
	if pid != 0 {
		if stop, err = countSyscalls(pid); err != nil {
			return c, err
		}
	}
	before, err := readCounters(t, p, pid)
	if err == nil {
		err = f()
	}
	after, readErr := readCounters(t, p, pid)
	syscalls, stopErr := stop()
	if err := errors.Join(err, readErr, stopErr); err != nil {
		return c, err
	}
	if after.packets == before.packets {
		return c, errors.New("no packet was sent")
	}
	return counters{
		packets: after.packets - before.packets, bytes: after.bytes - before.bytes,
		forwarded: pid != 0, syscalls: syscalls, switches: after.switches - before.switches,
		copied: after.copied - before.copied, copyCounted: after.copyCounted,
	}, nil
}

func readCounters(t topology, p pair, pid int) (c counters, err error) {
	if c.copied, c.copyCounted, err = t.copied(); err != nil {
		return c, err
	}
	for _, s := range p.sides() {
		link, err := s.ns.Netlink.LinkByName("eth0")
		if err != nil {
			return c, err
		}
		statistics := link.Attrs().Statistics
		c.packets += statistics.TxPackets
		c.bytes += statistics.TxBytes
	}
	if pid != 0 {
		c.switches, err = switches(pid)
	}
	return c, err
}

func threads(pid int) ([]int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var tids []int
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		tids = append(tids, tid)
	}
	return tids, nil
}

var switchLine = regexp.MustCompile(`(?m)^(?:non)?voluntary_ctxt_switches:\s+(\d+)$`)

// switches are the context switches of a process's threads.
func switches(pid int) (uint64, error) {
	tids, err := threads(pid)
	if err != nil {
		return 0, err
	}
	sum := uint64(0)
	for _, tid := range tids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
		if err != nil {
			return 0, err
		}
		for _, match := range switchLine.FindAllSubmatch(text, -1) {
			n, err := strconv.ParseUint(string(match[1]), 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// sysEnter is the tracepoint that all system calls pass.
const sysEnter = "/sys/kernel/tracing/events/raw_syscalls/sys_enter"

// perThread has the kernel count by thread.
const perThread = "hist:keys=common_pid:size=4096"

var countLine = regexp.MustCompile(`(?m)^\{ common_pid:\s+(\d+) \} hitcount:\s+(\d+)$`)

// countSyscalls counts the system calls of a process's threads until it is stopped.
func countSyscalls(pid int) (stop func() (uint64, error), err error) {
	trigger := filepath.Join(sysEnter, "trigger")
	if err := os.WriteFile(trigger, []byte(perThread), 0); err != nil {
		return nil, fmt.Errorf("count system calls: %w", err)
	}
	return func() (uint64, error) {
		text, err := os.ReadFile(filepath.Join(sysEnter, "hist"))
		err = errors.Join(err, os.WriteFile(trigger, []byte("!"+perThread), 0))
		if err != nil {
			return 0, fmt.Errorf("count system calls: %w", err)
		}
		return sumOf(string(text), pid)
	}, nil
}

func sumOf(histogram string, pid int) (uint64, error) {
	tids, err := threads(pid)
	if err != nil {
		return 0, err
	}
	if !strings.Contains(histogram, "Totals:") {
		return 0, fmt.Errorf("no histogram of system calls: %q", histogram)
	}
	sum := uint64(0)
	for _, match := range countLine.FindAllStringSubmatch(histogram, -1) {
		n, err := strconv.ParseUint(match[2], 10, 64)
		if err != nil {
			return 0, err
		}
		for _, tid := range tids {
			if match[1] == strconv.Itoa(tid) {
				sum += n
			}
		}
	}
	return sum, nil
}

// pin has all threads of a process run on one CPU.
func pin(pid, cpu int) error {
	tids, err := threads(pid)
	if err != nil {
		return err
	}
	for _, tid := range tids {
		if err := setAffinity(tid, cpu); err != nil {
			return err
		}
	}
	return nil
}

// unpin has them run anywhere again.
func unpin(pid int) error {
	tids, err := threads(pid)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(0)
	set.Set(1)
	for _, tid := range tids {
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return err
		}
	}
	return nil
}
