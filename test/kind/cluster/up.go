// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/node"
	"netio.dev/netio/test/kind/pki"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

// ErrUp is returned if a cluster is up already.
var ErrUp = errors.New("a cluster is up already")

// stepPatience is how long each step of a start may take: much more than it does.
const stepPatience = 3 * time.Minute

// Options of Up.
type Options struct {
	Dir   state.Dir
	Nodes int
	// KubeProxy, Tunnel and Families: see state.Record.
	KubeProxy, Tunnel bool
	Families          topology.Families
	// Bare leaves NetIO, and what needs a network, to others.
	Bare bool
	// Source is the top of NetIO's source tree, NetIO the folder of its programs.
	Source, NetIO string
	Out           io.Writer
}

// up is a start under way.
type up struct {
	*Cluster
	source, netio string
	families      topology.Families
	bare          bool
	// tag of NetIO's images.
	tag    string
	out    io.Writer
	began  time.Time
	client *kubernetes.Clientset
	config *rest.Config
}

// Up builds what is not built and brings a cluster up. If that fails, or ctx ends,
// it is as after Down. Errors: ErrUp, ErrMachine, topology.ErrNodes.
func Up(ctx context.Context, o Options) error {
	nodes, err := topology.Nodes(o.Nodes, o.Families)
	if err != nil {
		return err
	}
	if err := Check(o.NetIO); err != nil {
		return err
	}
	lock, err := o.Dir.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := clearAway(ctx, o.Dir); err != nil {
		return err
	}
	u := &up{Cluster: &Cluster{Dir: o.Dir, Nodes: nodes, KubeProxy: o.KubeProxy, Tunnel: o.Tunnel}, source: o.Source, netio: o.NetIO, families: o.Families, bare: o.Bare, out: o.Out, began: time.Now()}
	b := artifact.Builder{Dir: o.Dir, Source: o.Source, NetIO: o.NetIO, Say: u.say}
	if err := b.Build(ctx); err != nil {
		return err
	}
	u.tag = b.NetIOTag
	u.say("all is built")
	if err := u.start(ctx); err != nil {
		// Not by ctx, which may be what ended it.
		if record, lerr := o.Dir.Load(); lerr == nil {
			err = errors.Join(err, down(context.WithoutCancel(ctx), o.Dir, record))
		}
		return fmt.Errorf("%w; logs are in %s", err, o.Dir.Log())
	}
	return nil
}

// clearAway removes what a cluster left that ended by itself.
func clearAway(ctx context.Context, dir state.Dir) error {
	record, err := dir.Load()
	switch {
	case errors.Is(err, state.ErrNone):
		return nil
	case err != nil:
		return fmt.Errorf("%w; remove %s", err, dir.Run())
	case record.Alive():
		return fmt.Errorf("%w, of %d nodes; make cluster-down ends it", ErrUp, record.Nodes)
	}
	return down(ctx, dir, record)
}

// start is all after the build.
func (u *up) start(ctx context.Context) error {
	if err := os.RemoveAll(u.Dir.Log()); err != nil {
		return fmt.Errorf("remove old logs: %w", err)
	}
	if err := os.RemoveAll(u.Dir.Run()); err != nil {
		return fmt.Errorf("remove old state: %w", err)
	}
	supervisor, err := u.prepare()
	if err != nil {
		return err
	}
	// Whatever is waited for, it will not come if the supervisor has ended.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := supervisor.Wait()
		text, _ := os.ReadFile(filepath.Join(u.Dir.Log(), "supervisor.log"))
		cancel(fmt.Errorf("the nodes ended: %w\n%s", err, text))
	}()
	if u.client, u.config, err = u.Client(); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		do   func(context.Context) error
		// network: it brings one, or needs it.
		network bool
	}{
		{"API server answers", u.awaitAPIServer, false},
		{"NetIO is installed", u.installNetIO, true},
		{"nodes have registered", u.awaitPrefixes, false},
		{"nodes are ready", u.awaitReady, true},
		{"DNS answers", u.bringDNS, true},
	} {
		if s.network && u.bare {
			continue
		}
		stepCtx, stop := context.WithTimeoutCause(ctx, stepPatience, errTooLong)
		err := s.do(stepCtx)
		stop()
		if err != nil {
			return fmt.Errorf("until %s: %w", s.name, err)
		}
		u.say("%s", s.name)
	}
	return nil
}

// prepare does everything to the machine, each after it was recorded.
func (u *up) prepare() (*exec.Cmd, error) {
	cgroups, err := node.CgroupParents(fmt.Sprintf("netio-cluster-%d", os.Getpid()))
	if err != nil {
		return nil, err
	}
	sysctls, err := planSysctls()
	if err != nil {
		return nil, err
	}
	record := &state.Record{Nodes: len(u.Nodes), KubeProxy: u.KubeProxy, Tunnel: u.Tunnel, Families: u.families, NetIO: u.netio, Cgroups: cgroups, Sysctls: sysctls}
	if err := u.Dir.Save(record); err != nil {
		return nil, err
	}
	if err := setSysctls(sysctls); err != nil {
		return nil, err
	}
	for _, c := range cgroups {
		if err := node.MakeCgroup(c); err != nil {
			return nil, err
		}
	}
	if err := pki.Write(u.Dir.PKI(), u.Nodes, u.families); err != nil {
		return nil, err
	}
	supervisor, err := node.Start(u.Dir)
	if err != nil {
		return nil, err
	}
	u.Supervisor, record.Pid = supervisor.Process.Pid, supervisor.Process.Pid
	if record.Started, err = state.StartTime(record.Pid); err == nil {
		err = u.Dir.Save(record)
	}
	if err != nil {
		// There is no record by which it could be found.
		return nil, errors.Join(err, supervisor.Process.Kill(), supervisor.Wait())
	}
	return supervisor, nil
}

// say tells what has been reached, and when.
func (u *up) say(format string, args ...any) {
	fmt.Fprintf(u.out, "%6.1f s  %s\n", time.Since(u.began).Seconds(), fmt.Sprintf(format, args...))
}
