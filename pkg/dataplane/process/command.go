// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/kernel"
	"netio.dev/netio/pkg/dataplane/device/soft"
	"netio.dev/netio/pkg/dataplane/forward"
	"netio.dev/netio/pkg/dataplane/monotonic"
)

// options of the forwarder.
type options struct {
	runDir         string
	device         string
	instance       string
	lanes          int
	nbufs          int
	maxConnections int
	nice           int
	poll           time.Duration
	takeOver       bool
	forwarding     string
	worker         bool
	version        string
}

// NewCommand is `netio-agent forward`.
func NewCommand(version string) *cobra.Command {
	o := options{version: version}
	cmd := &cobra.Command{
		Use:   "forward",
		Short: "Run the forwarder: the process that moves the packets",
		Long: `Run the forwarder: a supervisor and a worker process that forwards. If the
worker dies it is replaced within milliseconds; connections and configuration
are kept. So are the device's memory and interfaces: in the kernel with the
module netio (--device kernel), else by the supervisor (--device soft).

It is configured over the socket forwarder.sock in the run directory, by
netio-agent or anything else that speaks its gRPC interface.`,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			return o.check()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			if o.worker {
				return o.runWorker(ctx, log)
			}
			return o.runSupervisor(ctx, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.runDir, "run-dir", "/run/netio", "directory for the control socket, the saved configuration and the connection table; should be a tmpfs")
	f.StringVar(&o.device, "device", deviceAuto, "NetIO device: kernel (the module netio), soft (user space, over TUN), or auto: kernel where it is there and of a version that fits, else soft")
	f.StringVar(&o.instance, "instance", "netio", fmt.Sprintf("name of the device instance, at most %d bytes", abi.NameMax-1))
	f.IntVar(&o.lanes, "lanes", 1, fmt.Sprintf("lanes of the device, a worker thread each; 1 to %d", abi.LanesMax))
	f.IntVar(&o.nbufs, "nbufs", soft.DefaultNbufs, "packet buffers of 2 KiB")
	f.IntVar(&o.maxConnections, "max-connections", 0, "capacity of the connection table; 0: what the configuration says, or 262144")
	f.IntVar(&o.nice, "nice", defaultNice(), "niceness of the worker process, -20 to 19; negative ones need CAP_SYS_NICE")
	f.DurationVar(&o.poll, "poll", defaultPoll(), fmt.Sprintf("how long a worker under load polls before it sleeps, at most %v: longer for less delay and fewer system calls, shorter for less CPU time", maxPoll))
	f.BoolVar(&o.takeOver, "take-over", false, "take over from a forwarder that runs with this run directory, within milliseconds; it stays, and goes on if this one ends")
	f.StringVar(&o.forwarding, "forwarding-file", "", "make this `FILE` when it forwards, and remove it before: a sign for who waits for this forwarder and for no other one")
	f.BoolVar(&o.worker, "worker", false, "be the worker process; for the supervisor")
	if err := f.MarkHidden("worker"); err != nil {
		panic(err)
	}
	return cmd
}

// defaultNice puts the workers ahead of other processes. On the only processor who
// gets a packet must run next.
func defaultNice() int {
	if runtime.NumCPU() == 1 {
		return 0
	}
	return -10
}

// maxPoll is about never to sleep.
const maxPoll = time.Minute

// defaultPoll: on the only processor nothing comes while one polls.
func defaultPoll() time.Duration {
	if runtime.NumCPU() == 1 {
		return 0
	}
	return forward.DefaultPoll
}

func (o *options) check() error {
	switch {
	case o.device != deviceAuto && o.device != deviceKernel && o.device != deviceSoft:
		return fmt.Errorf("--device %s: want auto, kernel or soft", o.device)
	case o.lanes < 1 || o.lanes > abi.LanesMax:
		return fmt.Errorf("--lanes %d: want 1 to %d", o.lanes, abi.LanesMax)
	case o.nbufs < 256 || o.nbufs > abi.NbufsMax:
		return fmt.Errorf("--nbufs %d: want 256 to %d", o.nbufs, abi.NbufsMax)
	case o.nice < -20 || o.nice > 19:
		return fmt.Errorf("--nice %d: want -20 to 19", o.nice)
	case o.poll < 0 || o.poll > maxPoll:
		return fmt.Errorf("--poll %v: want 0 to %v", o.poll, maxPoll)
	case o.maxConnections < 0:
		return fmt.Errorf("--max-connections %d: want 0 or more", o.maxConnections)
	case o.instance == "" || len(o.instance) >= abi.NameMax:
		return fmt.Errorf("--instance %q: want 1 to %d bytes", o.instance, abi.NameMax-1)
	}
	return nil
}

func (o *options) runSupervisor(ctx context.Context, log *slog.Logger) error {
	if err := o.noSign(); err != nil {
		return err
	}
	runs := ""
	if o.takeOver {
		runs = o.askDevice(ctx)
	}
	chosen, why, err := chooseDevice(o.device, runs, func() (uint32, error) { return kernel.Available("") })
	if err != nil {
		return err
	}
	log.Info("using the "+chosen+" device", "asked", o.device, "why", why)
	store := soft.NewStore()
	defer store.Close()
	s := supervisor{
		// All workers use the same device, whatever happens to /dev/netio.
		args: []string{
			"forward", "--worker", "--run-dir", o.runDir, "--device", chosen, "--instance", o.instance,
			"--lanes", strconv.Itoa(o.lanes), "--nbufs", strconv.Itoa(o.nbufs), "--max-connections", strconv.Itoa(o.maxConnections),
			"--nice", strconv.Itoa(o.nice), "--poll", o.poll.String(), "--forwarding-file", o.forwarding,
		},
		log: log.With("process", "supervisor"),
	}
	if chosen == deviceSoft {
		s.store = store
	}
	for take := true; ; take = false {
		lock, since, err := o.claim(ctx, chosen, store, take, s.log)
		if err != nil || lock == nil {
			return err
		}
		taken, err := o.forwardUntilTaken(ctx, &s, store, chosen, since, lock)
		if !taken {
			return err
		}
		s.log.Info("another forwarder has taken over; this one is there in case that ends")
		if err := o.noSign(); err != nil {
			s.log.Error("others take this for the one that forwards", "error", err)
		}
	}
}

// forwardUntilTaken keeps a worker alive until ctx ends, or another forwarder has
// taken over. Then the lock is not its own any more.
func (o *options) forwardUntilTaken(ctx context.Context, s *supervisor, store *soft.Store, chosen string, since int64, lock *os.File) (taken bool, err error) {
	defer lock.Close()
	l, err := o.listenTakeover()
	if err != nil {
		return false, err
	}
	defer l.Close()
	for {
		working, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.run(working, since) }()
		successor := o.awaitTakeover(ctx, l, chosen, s.log)
		stop()
		if err := <-ended; err != nil || successor == nil {
			// Before the lock: who takes that needs interfaces that nobody else has open.
			return false, errors.Join(err, store.Close())
		}
		since = int64(monotonic.Now())
		err := handOver(successor, lock, store)
		successor.Close()
		if err == nil {
			return true, nil
		}
		s.log.Error("what would take over has failed, going on", "error", err)
	}
}

func (o *options) runWorker(ctx context.Context, log *slog.Logger) error {
	b, err := readBirth()
	if err != nil {
		return err
	}
	log = log.With("process", "worker", "pid", os.Getpid())
	dev, err := o.openDevice(log)
	if err != nil {
		return fmt.Errorf("open device: %w", err)
	}
	defer dev.Close()
	w := worker{options: *o, dev: dev, birth: b, log: log, ready: func() {
		if err := o.sign(); err != nil {
			log.Error("nobody is told that this forwards", "error", err)
		}
		if b.Died != 0 {
			log.Info("forwarding again", "gap", b.gap(), "restarts", b.Restarts)
		} else {
			log.Info("forwarding", "device", o.device, "lanes", dev.Area().Header().Lanes)
		}
	}}
	err = w.run(ctx)
	if errors.Is(err, device.ErrNotOwner) {
		err = fmt.Errorf("%w; give each forwarder of a network namespace an --instance of its own", err)
	}
	return err
}
