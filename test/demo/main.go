// SPDX-License-Identifier: Apache-2.0

// Netio-demo shows NetIO at work on real traffic, in a minute. It plays the
// machine around NetIO: a host, a container runtime with three pods, and the
// world outside.
//
//	        ┌────────────────────── the host ─────────────────────┐
//	world ──┤ uplink0    host's stack ── netio0                   │
//	        │                              ║                      │
//	        │  agent ── gRPC ──────── forwarder                   │
//	        │    │                    ║    ║    ║                 │
//	        └────┼────────────────────╫────╫────╫─────────────────┘
//	         netio-cni               web client stranger
//
// The host is a sandbox (see test/internal/sandbox), so the real one is not
// touched. Every step prints one line; the exit status is 1 if one failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"netio.dev/netio/test/internal/load"
	"netio.dev/netio/test/internal/sandbox"
)

// exitInterrupted is what a shell reports for a program that SIGINT ended.
const exitInterrupted = 128 + int(syscall.SIGINT)

func main() {
	load.RunWorker()
	bin := flag.String("bin", "bin", "folder of netio-agent, netio-cni and netioctl")
	device := flag.String("device", "soft", "NetIO `device`: soft, or kernel where the module netio is loaded")
	kills := flag.Int("kills", 1, "how often to kill the forwarder")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "netio-demo: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if *kills < 1 {
		fmt.Fprintf(os.Stderr, "netio-demo: -kills %d: use 1 or more\n", *kills)
		os.Exit(2)
	}
	if *device != "soft" && *device != "kernel" {
		fmt.Fprintf(os.Stderr, "netio-demo: -device %s: use soft or kernel\n", *device)
		os.Exit(2)
	}
	path, err := filepath.Abs(*bin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "netio-demo:", err)
		os.Exit(1)
	}
	os.Exit(sandbox.Run(func() int { return run(path, *device, *kills) }))
}

// run is the demo, inside the sandbox.
func run(bin, device string, kills int) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	fmt.Println("NetIO demo. The host is a sandbox: this machine is not touched.")
	d := &demo{out: os.Stdout, bin: bin, device: device, kills: kills}
	err := d.play(ctx)
	if err == nil {
		d.printNumbers()
	}
	clean := d.clean()
	switch {
	case ctx.Err() != nil && clean == nil:
		fmt.Println("\nInterrupted. Everything was removed again.")
		return exitInterrupted
	case err != nil || clean != nil:
		if kept, kerr := d.keepLogs(); kerr != nil {
			fmt.Println("\nFailed, and the logs could not be kept:", kerr)
		} else {
			fmt.Printf("\nFailed. Look at the logs in %s\n", kept)
		}
		return 1
	}
	fmt.Println("\nEverything was removed again. Next: docs/README.md")
	return 0
}

// play runs the steps in order, up to the first that fails.
func (d *demo) play(ctx context.Context) error {
	for _, chapter := range []struct {
		title string
		steps []step
	}{
		{"NetIO starts, pods come up", []step{
			{"a host and a world outside it", d.makeHost},
			{"forwarder runs", d.startForwarder},
			{"agent runs", d.startAgent},
			{"pod web, by CNI ADD", func(ctx context.Context) (string, error) { return d.addPod(ctx, web) }},
			{"pod client", func(ctx context.Context) (string, error) { return d.addPod(ctx, client) }},
			{"pod stranger", func(ctx context.Context) (string, error) { return d.addPod(ctx, stranger) }},
		}},
		{"Everybody reaches everybody", []step{
			{"ping between all pods and the host", d.pingAll},
			{"TCP between all pods and the host", d.connectAll},
			{"pods reach the world, masqueraded", d.reachWorld},
		}},
		{"A policy, during a transfer", []step{
			{"client sends to web, 8 TCP streams", d.startTransfer},
			{"a NetIOPolicy lets only client reach web", d.applyPolicy},
			{"netioctl tells why", d.showVerdict},
			{"netioctl follows packets to their end", d.showTraces},
			{"the transfer goes on", d.transferGoesOn},
		}},
		{"Failures, during the transfer", []step{
			{"SIGKILL of the forwarder", d.killForwarder},
			{"SIGKILL of the agent", d.killAgent},
			{"the agent comes back", d.restartAgent},
			{"the transfer was whole", d.endTransfer},
		}},
		{"Numbers", []step{
			{"TCP, one stream", d.measureTCP},
			{"UDP, 64-byte packets", d.measureUDP},
			{"round trips, one after the other", d.measureRoundTrip},
		}},
	} {
		fmt.Fprintf(d.out, "\n%s\n", chapter.title)
		for _, s := range chapter.steps {
			if err := d.do(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// errInterrupted ends the play after a signal.
var errInterrupted = errors.New("interrupted")
