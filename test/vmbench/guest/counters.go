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
	"time"

	"golang.org/x/sys/unix"
)

// counters of a topology over a time.
type counters struct {
	packets, bytes uint64 // that pods have sent
	forwarded      bool   // by a process
	worker, others thread // of it: the thread that forwards, and all else together
	copied         uint64
	copyCounted    bool
}

// values are those per million packets, and per packet.
func (c counters) values() map[string]float64 {
	v := map[string]float64{"bytes_per_packet": float64(c.bytes) / float64(c.packets)}
	if c.forwarded {
		perMillion := func(n uint64) float64 { return 1e6 * float64(n) / float64(c.packets) }
		v["syscalls"], v["switches"], v["preemptions"] = perMillion(c.worker.syscalls), perMillion(c.worker.switches), perMillion(c.worker.preemptions)
		v["others_syscalls"], v["others_switches"] = perMillion(c.others.syscalls), perMillion(c.others.switches)
	}
	if c.copyCounted {
		v["copied"] = float64(c.copied) / float64(c.packets)
	}
	return v
}

// watch counts what happens during f.
func watch(t topology, p pair, f func() error) (c counters, err error) {
	pid, err := t.forwarder()
	if err != nil {
		return c, err
	}
	stop := func() (map[int]thread, error) { return nil, nil }
	if pid != 0 {
		if stop, err = countThreads(pid); err != nil {
			return c, err
		}
	}
	before, err := readCounters(t, p)
	if err == nil {
		err = f()
	}
	after, readErr := readCounters(t, p)
	threads, stopErr := stop()
	if err := errors.Join(err, readErr, stopErr); err != nil {
		return c, err
	}
	if after.packets == before.packets {
		return c, errors.New("no packet was sent")
	}
	c = counters{
		packets: after.packets - before.packets, bytes: after.bytes - before.bytes, forwarded: pid != 0,
		copied: after.copied - before.copied, copyCounted: after.copyCounted,
	}
	c.worker, c.others = busiest(threads)
	return c, nil
}

func readCounters(t topology, p pair) (c counters, err error) {
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
	return c, nil
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

// thread is what a thread of a forwarder has done.
type thread struct {
	cpu         time.Duration
	syscalls    uint64
	switches    uint64 // as it waits
	preemptions uint64 // as another thread of the machine's gets its CPU
}

// busiest separates the thread that took the most CPU time from the others.
func busiest(all map[int]thread) (most, others thread) {
	for _, t := range all {
		if t.cpu > most.cpu {
			t, most = most, t
		}
		others.cpu += t.cpu
		others.syscalls += t.syscalls
		others.switches += t.switches
		others.preemptions += t.preemptions
	}
	return most, others
}

var switchLine = regexp.MustCompile(`(?m)^(non)?voluntary_ctxt_switches:\s+(\d+)$`)

// readThreads returns CPU time and context switches of a process's threads.
func readThreads(pid int) (map[int]thread, error) {
	tids, err := threads(pid)
	if err != nil {
		return nil, err
	}
	all := map[int]thread{}
	for _, tid := range tids {
		dir := fmt.Sprintf("/proc/%d/task/%d/", pid, tid)
		status, err := os.ReadFile(dir + "status")
		if err != nil {
			return nil, err
		}
		var t thread
		for _, match := range switchLine.FindAllSubmatch(status, -1) {
			n, err := strconv.ParseUint(string(match[2]), 10, 64)
			if err != nil {
				return nil, err
			}
			if len(match[1]) > 0 {
				t.preemptions = n
			} else {
				t.switches = n
			}
		}
		stat, err := os.ReadFile(dir + "schedstat")
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Sscan(string(stat), &t.cpu); err != nil {
			return nil, fmt.Errorf("%sschedstat: %q: %w", dir, stat, err)
		}
		all[tid] = t
	}
	return all, nil
}

// sysEnter is the tracepoint that all system calls pass.
const sysEnter = "/sys/kernel/tracing/events/raw_syscalls/sys_enter"

// perThread has the kernel count by thread.
const perThread = "hist:keys=common_pid:size=4096"

var countLine = regexp.MustCompile(`(?m)^\{ common_pid:\s+(\d+) \} hitcount:\s+(\d+)$`)

// countThreads counts what the threads of a process do until it is stopped.
func countThreads(pid int) (stop func() (map[int]thread, error), err error) {
	before, err := readThreads(pid)
	if err != nil {
		return nil, err
	}
	trigger := filepath.Join(sysEnter, "trigger")
	if err := os.WriteFile(trigger, []byte(perThread), 0); err != nil {
		return nil, fmt.Errorf("count system calls: %w", err)
	}
	return func() (map[int]thread, error) {
		text, textErr := os.ReadFile(filepath.Join(sysEnter, "hist"))
		after, afterErr := readThreads(pid)
		if err := errors.Join(textErr, afterErr, os.WriteFile(trigger, []byte("!"+perThread), 0)); err != nil {
			return nil, fmt.Errorf("count system calls: %w", err)
		}
		counts, err := parseHistogram(string(text))
		if err != nil {
			return nil, err
		}
		for tid, t := range after {
			t.cpu -= before[tid].cpu
			t.switches -= before[tid].switches
			t.preemptions -= before[tid].preemptions
			t.syscalls = counts[tid]
			after[tid] = t
		}
		return after, nil
	}, nil
}

// parseHistogram returns the counts by thread.
func parseHistogram(histogram string) (map[int]uint64, error) {
	if !strings.Contains(histogram, "Totals:") {
		return nil, fmt.Errorf("no histogram of system calls: %q", histogram)
	}
	counts := map[int]uint64{}
	for _, match := range countLine.FindAllStringSubmatch(histogram, -1) {
		tid, err := strconv.Atoi(match[1])
		if err != nil {
			return nil, err
		}
		if counts[tid], err = strconv.ParseUint(match[2], 10, 64); err != nil {
			return nil, err
		}
	}
	return counts, nil
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
