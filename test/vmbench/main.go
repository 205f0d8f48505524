// SPDX-License-Identifier: Apache-2.0

// Command vmbench measures NetIO on its kernel module beside Linux's own ways to
// join two pods, TUN and AF_XDP, in a real kernel and in one run.
//
//	vmbench [-build DIR] [-bin DIR] [-series NAME] [-boot PARAMETERS]
//	        [-kinds LIST] [-topologies LIST] [-phases LIST]
//	        [-profile FILE] [-o table|json] [-v]
//
// Two machines are booted (test/vm), one after the other:
//
//	one CPU    instructions, counted exactly by a plugin of QEMU (plugin/count.c);
//	           its clock advances by 1 ns with each
//	two CPUs   rates by the machine's own clock; system calls and context switches
//	           of the forwarder; bytes of payload copied
//
// In them test/vmbench/guest makes the topologies, one after the other, and the
// traffic. An emulated CPU has no caches and no memory to wait for: instructions
// are exact and the same again, rates are good for ratios at most.
//
// What hack/bench-vm.sh builds is in -build and -bin.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"netio.dev/netio/test/vm"
)

type options struct {
	build, bin, series        string
	kinds, topologies, phases string // comma-separated
	boot, profile, output     string
	verbose                   bool
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmbench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vmbench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("vmbench", flag.ContinueOnError)
	flags.StringVar(&o.build, "build", "build/bench-vm", "`folder` of init, guest and count.so")
	flags.StringVar(&o.bin, "bin", "bin", "`folder` of netio-agent")
	flags.StringVar(&o.series, "series", "6.1", "kernel series, as in hack/kernels.sh --list")
	flags.StringVar(&o.topologies, "topologies", "", "comma-separated `list`; empty: all")
	flags.StringVar(&o.phases, "phases", "", "comma-separated `list`; empty: all")
	flags.StringVar(&o.kinds, "kinds", "instructions,rates", "comma-separated `list` of what to measure")
	flags.StringVar(&o.boot, "boot", "init_on_alloc=0", "added to the kernel's command line")
	flags.StringVar(&o.profile, "profile", "", "write instructions by function to this `file`")
	flags.StringVar(&o.output, "o", "table", "output `format`: table or json")
	flags.BoolVar(&o.verbose, "v", false, "show what kernel and programs say")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o %q: use table or json", o.output)
	}
	for _, l := range []struct {
		flag, list string
		known      []string
	}{
		{"kinds", o.kinds, kinds},
		{"topologies", o.topologies, topologies},
		{"phases", o.phases, phases},
	} {
		if l.list == "" && l.flag != "kinds" {
			continue
		}
		for name := range strings.SplitSeq(l.list, ",") {
			if !slices.Contains(l.known, name) {
				return o, fmt.Errorf("-%s: %q is none of %s", l.flag, name, strings.Join(l.known, ", "))
			}
		}
	}
	return o, nil
}

// kinds of measurements, and the phases that the guest program has of them.
var (
	kinds  = []string{"instructions", "rates"}
	phases = []string{"udp4", "udp6", "tcp", "rr"}
)

func run(ctx context.Context, o options, out io.Writer) error {
	series, err := vm.Find(o.series)
	if err != nil {
		return err
	}
	r := results{}
	for _, kind := range []struct {
		name    string
		measure func(context.Context, vm.Series) ([]measured, error)
	}{{"instructions", o.countInstructions}, {"rates", o.measureRates}} {
		if !slices.Contains(strings.Split(o.kinds, ","), kind.name) {
			continue
		}
		all, err := kind.measure(ctx, series)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		r.add(all)
	}
	r.alone()
	if o.output == "json" {
		return printJSON(out, series.Release, o.boot, r)
	}
	return printTable(out, series.Release, o.boot, r)
}

// Where things are in a machine.
const (
	guestPath = "/netio/guest"
	agentPath = "/netio/netio-agent"
)

// machineTimeout is how long one kind of measurement may take.
const machineTimeout = 20 * time.Minute

// start starts a machine with all that the guest program needs, and netio.ko with
// these parameters.
func (o options) start(ctx context.Context, series vm.Series, cpus int, parameters []string, qemu ...string) (*vm.Machine, error) {
	modules, err := filepath.Glob(filepath.Join("build/kmod", series.Name, "netio.ko"))
	if err != nil || len(modules) != 1 {
		return nil, fmt.Errorf("no netio.ko for %s (%v)", series.Name, err)
	}
	files := vm.ModuleFiles(modules...)
	files = append(files, vm.File{Guest: guestPath, Host: filepath.Join(o.build, "guest")}, vm.File{Guest: agentPath, Host: filepath.Join(o.bin, "netio-agent")})
	nft, err := vm.Program("nft")
	if err != nil {
		return nil, err
	}
	// A bridge that netfilter looks into would be no plain one.
	kernel := slices.DeleteFunc(slices.Clone(vm.CommonModules), func(name string) bool { return name == "br_netfilter" })
	c := vm.Config{
		Modules: kernel,
		Series:  series, Init: filepath.Join(o.build, "init"), CPUs: cpus, Memory: 1024,
		Files: append(files, nft...), Append: o.boot, QEMU: qemu, Timeout: machineTimeout,
	}
	if o.verbose {
		c.Output = os.Stderr
	}
	m, err := vm.Boot(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := m.Insert(ctx, "/modules/netio.ko", parameters...); err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}
