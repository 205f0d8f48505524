// SPDX-License-Identifier: Apache-2.0

// Command guest is what the measurements of vmbench run in a machine.
//
//	guest instructions FLAGS   measures topologies between the marks that
//	                           plugin/count.c knows; needs one CPU
//	guest rates FLAGS          measures by the clock, and counts system calls,
//	                           context switches and bytes copied
//	guest symbols              prints the kernel's functions
//
// Both kinds print a result per topology and phase, a JSON object each. They
// work in namespaces of their own, one topology after the other.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"netio.dev/netio/test/internal/load"
)

func main() {
	load.RunWorker()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: guest instructions|rates|symbols")
	}
	switch args[0] {
	case "symbols":
		return symbols(os.Stdout)
	case "end":
		return runEnd(args[1:])
	case "xdp":
		return forwardXDP(args[1:])
	case "instructions", "rates":
		return measure(args[0], args[1:])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// result of a phase of a topology.
type result struct {
	Topology string             `json:"topology"`
	Phase    string             `json:"phase"`
	Units    float64            `json:"units,omitempty"` // packets, round trips or MiB of the window
	Batch    int                `json:"batch,omitempty"` // units of a batch, if the window has any
	Values   map[string]float64 `json:"values,omitempty"`
}

// settings of a run.
type settings struct {
	duration  time.Duration
	batches   int
	mebibytes int
	trips     int
}

// phase measures something of a topology.
type phase struct {
	name string
	run  func(topology, pair, settings) (result, error)
}

func measure(kind string, args []string) error {
	var s settings
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	var o forwarderOptions
	flags.StringVar(&o.agent, "agent", "/netio/netio-agent", "path of netio-agent")
	flags.DurationVar(&o.poll, "poll", 0, "how long NetIO's forwarders poll; 0: as they choose")
	topologyList := flags.String("topologies", "", "comma-separated `list`; empty: all")
	phaseList := flags.String("phases", "", "comma-separated `list`; empty: all")
	flags.DurationVar(&s.duration, "time", time.Second, "time of a phase that goes by time")
	flags.IntVar(&s.batches, "batches", 64, "batches of packets that are counted")
	flags.IntVar(&s.mebibytes, "mebibytes", 64, "MiB that are counted")
	flags.IntVar(&s.trips, "trips", 2000, "round trips that are counted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	phases := instructionPhases
	if kind == "rates" {
		phases = ratePhases
	}
	names, all := topologies(o)
	out := json.NewEncoder(os.Stdout)
	for _, name := range names {
		if !chosen(*topologyList, name) {
			continue
		}
		if err := measureTopology(name, all[name], phases, *phaseList, s, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func chosen(list, name string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

func measureTopology(name string, t topology, phases []phase, list string, s settings, out *json.Encoder) (err error) {
	p, err := t.setup()
	defer func() { err = errors.Join(err, t.stop()) }()
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for _, phase := range phases {
		if !chosen(list, phase.name) {
			continue
		}
		r, err := phase.run(t, p, s)
		if err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		r.Topology, r.Phase = name, phase.name
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return p.close()
}
