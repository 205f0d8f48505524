// SPDX-License-Identifier: Apache-2.0

// Netio-bench measures NetIO beside Linux's own ways to join two pods, in one
// run: a bridge, a router, a router with nftables rules equal to NetIO's policy;
// and beside a loop that only copies between two TUNs, which tells what user space
// can reach over TUN on the machine. It needs root, and works in namespaces of its
// own.
//
//	netio-bench [-bin DIR] [-rounds N] [-time D] [-topologies LIST] [-phases LIST] [-o table|json]
//
// Machines are noisy, so the topologies take turns: in every round each phase
// runs on all of them, one after the other (A B C D, A B C D, ...), and ratios
// are medians of the rounds' ratios. Sender, receiver and the forwarder share
// the CPUs as the scheduler sees fit; nothing is pinned. TCP streams use CUBIC. CPU is that of the
// whole machine while a phase runs (all but idle, I/O wait and steal), so
// nothing else should run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/internal/cputime"
	"netio.dev/netio/test/internal/load"
	"netio.dev/netio/test/internal/sandbox"
)

// description of a run, in its output.
type description struct {
	CPUs     int           `json:"cpus"`
	CPU      string        `json:"cpu"`
	Kernel   string        `json:"kernel"`
	Busy     float64       `json:"cpus_busy_before"` // with what else runs on the machine
	Rounds   int           `json:"rounds"`
	Duration time.Duration `json:"duration_ns"`
}

type options struct {
	bin, device, output string
	rounds              int
	duration            time.Duration
	topologies, phases  []string
}

func main() {
	load.RunWorker()
	opts, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "netio-bench:", err)
		os.Exit(2)
	}
	os.Exit(sandbox.Run(func() int {
		if err := run(opts); err != nil {
			fmt.Fprintln(os.Stderr, "netio-bench:", err)
			return 1
		}
		return 0
	}))
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("netio-bench", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "folder of netio-agent")
	flags.StringVar(&o.device, "device", "soft", "NetIO `device`: soft or kernel")
	flags.StringVar(&o.output, "o", "table", "output `format`: table or json")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds")
	flags.DurationVar(&o.duration, "time", 2*time.Second, "time that each measurement takes")
	topologies := flags.String("topologies", "bridge,routed,nftables,tun-copy,netio", "comma-separated `list`")
	phaseList := flags.String("phases", strings.Join(phaseNames(), ","), "comma-separated `list`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.topologies, o.phases = strings.Split(*topologies, ","), strings.Split(*phaseList, ",")
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.output != "table" && o.output != "json":
		return o, fmt.Errorf("-o %q: use table or json", o.output)
	case o.rounds < 1:
		return o, fmt.Errorf("-rounds %d: use 1 or more", o.rounds)
	case o.duration < 100*time.Millisecond:
		return o, fmt.Errorf("-time %v: use 100ms or more", o.duration)
	}
	for _, name := range o.phases {
		if !slices.Contains(phaseNames(), name) {
			return o, fmt.Errorf("-phases: %q is none of %s", name, strings.Join(phaseNames(), ", "))
		}
	}
	for _, name := range o.topologies {
		if _, err := o.topology(name); err != nil {
			return o, err
		}
	}
	return o, nil
}

func phaseNames() []string {
	var names []string
	for _, p := range phases {
		names = append(names, p.name)
	}
	return names
}

func (o options) topology(name string) (Topology, error) {
	switch name {
	case "bridge":
		return bridge{}, nil
	case "routed":
		return routed{}, nil
	case "nftables":
		return routed{filter: true}, nil
	case "tun-copy":
		return &tunCopy{}, nil
	case "netio":
		return &netio{bin: o.bin, device: o.device, runDir: "/run/netio"}, nil
	}
	return nil, fmt.Errorf("-topologies: %q is none of bridge, routed, nftables, tun-copy, netio", name)
}

// run does all rounds and prints the outcome. It runs inside the sandbox.
func run(o options) (err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)

	type subject struct {
		Topology
		pair Pair
	}
	var subjects []subject
	for _, name := range o.topologies {
		t, err := o.topology(name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Stop()) }()
		pair, err := t.Setup()
		if err != nil {
			return fmt.Errorf("set up %s: %w%s", name, err, t.Log())
		}
		subjects = append(subjects, subject{t, pair})
	}

	run, err := describe(o)
	if err != nil {
		return err
	}
	r := newResults()
	for round := range o.rounds {
		for _, p := range phases {
			if !slices.Contains(o.phases, p.name) {
				continue
			}
			for _, s := range subjects {
				fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", round+1, o.rounds, p.name, s.Name())
				v, err := p.run(s.Topology, s.pair, o.duration)
				if err != nil {
					return fmt.Errorf("%s of %s: %w%s", p.name, s.Name(), err, s.Log())
				}
				r.add(round, s.Name(), v)
				select {
				case sig := <-signals:
					return fmt.Errorf("stopped by a signal: %v", sig)
				default:
				}
			}
		}
	}

	if o.output == "json" {
		return printJSON(os.Stdout, run, o.topologies, r)
	}
	return printTable(os.Stdout, run, o.topologies, r)
}

// describe also measures what else the machine does, for a second.
func describe(o options) (description, error) {
	d := description{CPUs: runtime.NumCPU(), CPU: "unknown", Rounds: o.rounds, Duration: o.duration}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return d, fmt.Errorf("uname: %w", err)
	}
	d.Kernel = unix.ByteSliceToString(uts.Release[:])
	before, err := cputime.Machine()
	if err != nil {
		return d, err
	}
	time.Sleep(time.Second)
	after, err := cputime.Machine()
	if err != nil {
		return d, err
	}
	d.Busy = (after - before).Seconds()
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return d, fmt.Errorf("describe the machine: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			d.CPU = strings.TrimSpace(value)
			break
		}
	}
	return d, nil
}
