// SPDX-License-Identifier: Apache-2.0

// Package cputime reads how long CPUs have worked, as the kernel counts it.
package cputime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is USER_HZ, the unit of /proc/stat: 100 a second on all Linux systems
// that Go runs on.
const tick = time.Second / 100

// Machine is the time that all CPUs together have spent on anything but
// idling, waiting for I/O and being taken away by a hypervisor; see proc(5),
// /proc/stat. It moves in steps of 10 ms.
func Machine() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return parseStat(string(text))
}

func parseStat(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	// cpu user nice system idle iowait irq softirq steal guest guest_nice;
	// guest time is part of user's.
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("read CPU time: /proc/stat begins with %q", line)
	}
	var busy time.Duration
	for _, i := range []int{1, 2, 3, 6, 7} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: /proc/stat: %w", err)
		}
		busy += time.Duration(ticks) * tick
	}
	return busy, nil
}

// Processes is the time that the threads of the processes have spent on CPUs,
// to the nanosecond (/proc/PID/task/TID/schedstat). That of threads which have
// ended is not in it.
func Processes(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		if len(tasks) == 0 {
			return 0, fmt.Errorf("read CPU time: no process %d", pid)
		}
		for _, path := range tasks {
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the thread has ended
			}
			if err != nil {
				return 0, fmt.Errorf("read CPU time: %w", err)
			}
			first, _, _ := strings.Cut(string(text), " ")
			ns, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read CPU time: %s: %w", path, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}
