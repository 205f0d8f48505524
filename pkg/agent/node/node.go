// SPDX-License-Identifier: Apache-2.0

// Package node is the agent of a node: what it gets from CNI calls, from its
// configuration file and from a Source it makes of the host's network, the
// forwarder's tables and the pods' interfaces.
//
//	config file ──config──┐           ┌── hostnet ──> host's interface, routes, NAT
//	Source ───────Facts───┼──> agent ─┼── forwarder ──gRPC──> forwarder
//	netio-cni ───service──┘           └── podnet ──> pods' interfaces
//
// Packages standalone and cluster have the sources: a folder of manifests, and a
// Kubernetes cluster.
//
// Stopping the agent leaves the network as it is. Nothing is sent to the
// forwarder before the source has told all that it knows: until then what it has
// stays in force.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/cniconf"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/hostnet"
	"netio.dev/netio/pkg/agent/metrics"
	"netio.dev/netio/pkg/agent/policylog"
	"netio.dev/netio/pkg/agent/pools"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/agent/service"
	"netio.dev/netio/pkg/agent/servicehealth"
	"netio.dev/netio/pkg/agent/socket"
	"netio.dev/netio/pkg/agent/sysctl"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/ipam"
)

// Options of the agent.
type Options struct {
	// ConfigFile is that of package config.
	ConfigFile string
	Source     Source
	Version    string
	// Plugin is the CNI plugin's binary that installCNI copies; "": the one
	// beside this program.
	Plugin string
	// HostNetNS is the network namespace that is the host's; "": the agent's
	// own.
	HostNetNS string
	// Sysctls are where they are, "" for where they usually are.
	Sysctls sysctl.Dir
	// TakeOver: an agent that runs is asked to give way, and this one gives way too.
	TakeOver bool
	// After is a file that has to be there before an agent that runs is asked; "": none.
	// The forwarder that belongs to this one writes it when it forwards: one that
	// cannot leaves the node to those that can.
	After string
	// KernelModule is the file in which `netio-agent kmod deliver` notes what came of
	// it, "" where the module is not delivered.
	KernelModule string
}

// stopTime is how long calls that are under way may take when the agent stops.
const stopTime = 5 * time.Second

// Files in the state directory.
const (
	leasesFile     = "leases.db"
	attachmentsDir = "attachments"
	sysctlFile     = "sysctls.json"
)

// agent is a running agent.
type agent struct {
	Options
	started   time.Time
	problems  problem.List
	leases    *ipam.Allocator
	pools     *pools.Pools
	manager   *attach.Manager
	keeper    *forwarder.Keeper
	host      *hostnet.Host
	hostLoop  *hostnet.Keeper
	hostMTU   int
	policyLog *policylog.Log
	health    *servicehealth.Server
	recorder  *metrics.Recorder
	// policies is how many are wanted.
	policies atomic.Int64
	// joined wakes who follows the forwarder's starts. asking wakes who publishes how
	// the node is; look says that it is worth a look soon.
	joined, asking, look chan struct{}

	mu     sync.Mutex
	config *config.Config
	facts  Facts
	// hostErr is what the last pass over the host's network complained of;
	// hostPass is closed, and replaced, after each pass.
	hostErr  error
	hostPass chan struct{}
	// hostWant is what the host's network is to be.
	hostWant  hostnet.Config
	addresses []netip.Addr
	portErrs  map[string]string
	// policiesRefused is why the forwarder does not have what the source told last.
	policiesRefused error
}

// Run is the agent until ctx ends. Errors are those that keep it from starting or
// going on, ErrRestart among them.
func Run(ctx context.Context, o Options) error {
	successor, err := run(ctx, o)
	if err != nil || successor == nil {
		return err
	}
	slog.Info("another agent has taken over; this one is there in case that ends")
	successor.Wait(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the agent that had taken over has ended: %w", ErrRestart)
}

// run is Run until another agent takes over.
func run(ctx context.Context, o Options) (*socket.Successor, error) {
	data, err := config.Read(o.ConfigFile, o.Source.Example())
	if err != nil {
		return nil, err
	}
	a := &agent{Options: o, started: time.Now(), recorder: metrics.NewRecorder(), joined: make(chan struct{}, 1), asking: make(chan struct{}, 1), look: make(chan struct{}, 1),
		hostErr: hostnet.ErrNoInterface, hostPass: make(chan struct{}), portErrs: map[string]string{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := o.Source.Configure(ctx, o.ConfigFile, data, &a.problems)
	switch {
	case ctx.Err() != nil:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	a.config = c
	acquire := socket.Acquire
	if o.TakeOver {
		acquire = func(path string) (*socket.Lock, error) { return socket.TakeOver(ctx, path, a.mayTakeOver()) }
	}
	lock, err := acquire(c.Socket)
	if err != nil {
		if o.TakeOver && ctx.Err() != nil {
			return nil, nil
		}
		return nil, err
	}
	defer lock.Release()
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	defer a.leases.Close()
	if !o.TakeOver {
		return nil, a.run(ctx, data)
	}
	asked := make(chan *socket.Successor, 1)
	go func() {
		successor, err := lock.AwaitSuccessor(ctx)
		if err != nil {
			slog.Error("no other agent can take over", "error", err)
		}
		asked <- successor
		if successor != nil {
			cancel()
		}
	}()
	err = a.run(ctx, data)
	cancel()
	return <-asked, err
}

// open reads what the last run left.
func (a *agent) open(ctx context.Context) error {
	c := a.config
	if c.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host's name: %w; set node", err)
		}
		c.Node = name
	}
	for _, dir := range []string{c.RunDir, c.StateDir, pending.Dir(c.StateDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	a.host = &hostnet.Host{NetNS: a.HostNetNS, Sysctls: a.Sysctls, SysctlRecord: filepath.Join(c.StateDir, sysctlFile)}
	pods, host, err := a.mtu(c)
	if err != nil {
		return err
	}
	a.hostMTU = host
	store, err := attachment.Open(filepath.Join(c.StateDir, attachmentsDir))
	if err != nil {
		return err
	}
	opts := ipam.Options{Pools: c.PodCIDRs, CoolDown: c.CoolDown}
	if opts.CoolDown == 0 {
		opts.CoolDown = -1 // none; 0 is the default there
	}
	for _, r := range slices.Concat(c.RouterAddresses, c.ServiceSources) {
		opts.Reserved = append(opts.Reserved, netip.PrefixFrom(r, r.BitLen()))
	}
	a.leases, err = ipam.Open(filepath.Join(c.StateDir, leasesFile), opts)
	if err != nil {
		return err
	}
	a.pools = pools.New(a.leases, a.ask)
	// The attachments may be of any block that the node had; new ones have to wait
	// until the source has said that it leases from them.
	if err := a.leases.SetBlocks(a.Source.Blocks()); err != nil {
		slog.Warn("some blocks of pools cannot be used", "error", err)
	}
	a.manager = attach.NewManager(a.leases, store, pending.Dir(c.StateDir), attach.Settings{MTU: pods, Gateways: c.RouterAddresses, Sysctls: a.Sysctls})
	a.problems.Replace("attachments", lines("attachments", a.manager.Recover(ctx))...)
	if err := a.leases.SetBlocks(nil); err != nil {
		return errors.Join(err, a.leases.Close())
	}
	if err := a.checkRouters(); err != nil {
		return errors.Join(err, a.leases.Close())
	}
	a.keeper, err = forwarder.Dial(c.ForwarderSocket, forwarder.Events{
		Status: a.forwarderStatus, Joined: a.forwarderJoined, Ports: a.forwarderPorts,
	})
	if err != nil {
		return errors.Join(err, a.leases.Close())
	}
	// A port's problem may have come with the answer to its removal.
	a.manager.Use(a.keeper, a.podReady, func() { a.forwarderPorts(nil) })
	a.manager.UseBlocks(a.pools)
	a.hostLoop = hostnet.NewKeeper(a.host, a.hostDone)
	a.health = servicehealth.New(func() bool { return a.ready() == nil }, func(err error) { a.problems.Report("service health", err) })
	return nil
}

// checkRouters: a pod that got its address before the router was configured to
// have it would be cut off.
func (a *agent) checkRouters() error {
	for _, p := range a.manager.List() {
		for _, ip := range p.Addresses {
			for _, r := range slices.Concat(a.config.RouterAddresses, a.config.ServiceSources) {
				if ip == r {
					return fmt.Errorf("%s: routerAddresses: %s is the address of pod %s/%s; choose another one, or stop the pod first", a.ConfigFile, r, p.Namespace, p.Name)
				}
			}
		}
	}
	return nil
}

// mtu is that of the pods' interfaces, the configured one or what fits through the
// uplink, and that of the host knet: packets of tunnels pass through it.
func (a *agent) mtu(c *config.Config) (pods, host int, err error) {
	overhead := c.TunnelOverhead()
	if c.MTU != 0 {
		return c.MTU, c.MTU + overhead, nil
	}
	mtu, err := a.host.UplinkMTU(c.NodeAddresses)
	if err != nil {
		return 0, 0, fmt.Errorf("find the uplink's MTU: %w; set mtu", err)
	}
	return max(mtu-overhead, config.MinMTU), max(mtu, config.MinMTU+overhead), nil
}

// run serves until ctx ends.
func (a *agent) run(ctx context.Context, data []byte) error {
	c := a.config // of which nothing changes while the agent runs that is used here
	slog.Info("netio-agent starts", "version", a.Version, "node", c.Node, "pods", c.PodCIDRs, "attachments", len(a.manager.List()))
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()

	a.policyLog = policylog.New(a.keeper.Observation(), slog.Default())
	workers.Go(func() { a.policyLog.Run(background) })
	if c.Metrics != nil {
		workers.Go(func() { a.serveMetrics(background, c.Metrics) })
	}
	facts, ended := a.follow(background, &workers)
	var initial desired.State
	select {
	case f := <-facts:
		initial = a.initialState(f)
	case err := <-ended:
		a.keeper.Close()
		return err
	case <-ctx.Done():
		a.keeper.Close() // the source may be telling more already
		return nil
	}
	workers.Go(func() { a.keeper.Run(background, initial) })
	a.wantHost()
	workers.Go(func() { a.hostLoop.Run(background) })
	workers.Go(func() { a.health.Run(background) })
	if c.KubeProxyReplacement {
		workers.Go(func() { servicehealth.NewProxy(func() bool { return a.ready() == nil }).Run(background) })
	}
	workers.Go(func() { a.followForwarder(background) })
	workers.Go(func() { a.watchPending(background) })
	workers.Go(func() { a.watchConfig(background, data) })
	workers.Go(func() { a.Source.Publish(background, a.report, a.asking, a.look) })

	listener, err := socket.Listen(c.Socket)
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.UnaryInterceptor(a.recorder.Interceptor))
	service.Register(g, service.Options{
		Version: a.Version, Node: c.Node, Mode: a.Source.Mode(), Started: a.started,
		Manager: a.manager, Keeper: a.keeper, Leases: a.leases, Problems: &a.problems,
		Ready: a.ready, Degraded: a.degraded, Policies: func() int { return int(a.policies.Load()) },
	})
	serving := make(chan error, 1)
	go func() { serving <- g.Serve(listener) }()
	slog.Info("netio-agent serves", "socket", c.Socket)
	select {
	case err := <-serving:
		return fmt.Errorf("serve %s: %w", c.Socket, err)
	case err = <-ended:
	case <-ctx.Done():
	}
	stopServer(g)
	slog.Info("netio-agent stops; the network stays as it is")
	return err
}

// stopServer lets calls end that are under way, for a while.
func stopServer(g *grpc.Server) {
	timer := time.AfterFunc(stopTime, g.Stop)
	defer timer.Stop()
	g.GracefulStop()
}

// ready tells why an ADD would fail.
func (a *agent) ready() error {
	s := a.keeper.Status()
	if s.InForce {
		return nil
	}
	return cmp.Or(s.Err, forwarder.ErrDown)
}

// degraded tells why pods may lack connectivity.
func (a *agent) degraded() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hostErr != nil {
		return fmt.Errorf("the host's network is not as it should be: %w", a.hostErr)
	}
	return nil
}

func (a *agent) current() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config
}

// plugin is the binary that installCNI copies.
func (a *agent) plugin() (string, error) {
	if a.Plugin != "" {
		return a.Plugin, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return filepath.Join(filepath.Dir(self), cniconf.Plugin), nil
}
