// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netio.dev/netio/pkg/dataplane/forward"
	"netio.dev/netio/test/vm"
)

// measured is what the guest program says of a phase of a topology.
type measured struct {
	Topology string             `json:"topology"`
	Phase    string             `json:"phase"`
	Units    float64            `json:"units"`
	Batch    float64            `json:"batch"`
	Values   map[string]float64 `json:"values"`
}

// window is what the plugin has counted in one.
type window struct {
	user, kernel, rep           uint64
	batches, least, median, max uint64
	at                          map[uint64]uint64 // instructions by address
}

func readWindows(in io.Reader) ([]window, error) {
	var all []window
	w := window{at: map[uint64]uint64{}}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var err error
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "window":
			w = window{at: map[uint64]uint64{}}
			_, err = fmt.Sscan(rest, &w.user, &w.kernel, &w.rep)
		case "batches":
			_, err = fmt.Sscan(rest, &w.batches, &w.least, &w.median, &w.max)
		case "at":
			var address, n uint64
			_, err = fmt.Sscanf(rest, "%x %d", &address, &n)
			w.at[address] = n
		case "end":
			all = append(all, w)
		default:
			err = errors.New("unknown line")
		}
		if err != nil {
			return nil, fmt.Errorf("plugin: %q: %w", lines.Text(), err)
		}
	}
	return all, lines.Err()
}

// guest runs the guest program and returns its results.
func guest(ctx context.Context, m *vm.Machine, args ...string) ([]measured, error) {
	r, err := m.Run(ctx, vm.Command{Args: append([]string{guestPath}, args...), Timeout: 15 * time.Minute})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, err
	}
	var all []measured
	for in := json.NewDecoder(strings.NewReader(r.Output)); ; {
		var one measured
		err := in.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w in %q", err, r.Output)
		}
		all = append(all, one)
	}
}

func (o options) countInstructions(ctx context.Context, series vm.Series) ([]measured, error) {
	dir, err := os.MkdirTemp("", "netio-vmbench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "counts")
	plugin, err := filepath.Abs(filepath.Join(o.build, "count.so"))
	if err != nil {
		return nil, err
	}
	m, err := o.start(ctx, series, 1, nil, "-icount", "shift=0,sleep=off", "-plugin", plugin+",profile=on,out="+file)
	if err != nil {
		return nil, err
	}
	defer m.Kill()
	all, err := guest(ctx, m, "instructions", "-topologies", o.topologies, "-phases", o.phases)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	windows, err := readWindows(f)
	if err != nil {
		return nil, err
	}
	if len(windows) != len(all) {
		return nil, fmt.Errorf("%d windows were counted, %d marked", len(windows), len(all))
	}
	profiles, err := o.profiles(ctx, m, windows)
	if err != nil {
		return nil, err
	}
	for i, w := range windows {
		all[i].Values = w.values(all[i], profiles[i])
	}
	if o.profile != "" {
		if err := writeProfiles(o.profile, all, profiles); err != nil {
			return nil, err
		}
	}
	return all, m.Shutdown(ctx)
}

// values of a window, per unit: of batches the median counts.
func (w window) values(r measured, p profile) map[string]float64 {
	scale := 1.0
	if r.Phase == "tcp" {
		scale = 1000
	}
	total := float64(w.user+w.kernel) / r.Units
	v := map[string]float64{
		"total":  total / scale,
		"string": float64(w.rep) / r.Units / scale,
	}
	if w.batches > 0 {
		each := r.Batch * scale
		v["total"] = float64(w.median) / each
		v["mean"], v["min"], v["max"] = total/scale, float64(w.least)/each, float64(w.max)/each
	}
	if r.Topology == "direct" {
		v["ends"] = v["total"] - p.sum(func(name string) bool { return slices.Contains(wire, name) })/r.Units
	}
	if r.Topology == subject {
		v["own"] = p.sum(func(name string) bool {
			return strings.HasSuffix(name, " [netio]") || strings.HasPrefix(name, agent+": ")
		}) / r.Units
	}
	return v
}

// An emulated CPU is some twenty times as slow as a real one, and so are packets.
// What tells a busy forwarder from an idle one is as much longer than by default:
// the module's deadman, and how long the forwarder polls.
const (
	slowDeadman = "deadman_us=1000"
	slowPoll    = 20 * forward.DefaultPoll
)

func (o options) measureRates(ctx context.Context, series vm.Series) ([]measured, error) {
	m, err := o.start(ctx, series, 2, []string{slowDeadman})
	if err != nil {
		return nil, err
	}
	defer m.Kill()
	all, err := guest(ctx, m, "rates", "-poll", slowPoll.String(), "-topologies", o.topologies, "-phases", o.phases)
	if err != nil {
		return nil, err
	}
	return all, m.Shutdown(ctx)
}
