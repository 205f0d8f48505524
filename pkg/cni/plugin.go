// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

// Versions are those of the CNI specification that the plugin answers in.
var Versions = version.VersionsStartingFrom("0.3.0")

const about = "CNI plugin netio-cni: attaches containers to the NetIO router of this machine"

// undoTimeout is how long the plugin tries to take back an ADD whose outcome
// it does not know.
const undoTimeout = 5 * time.Second

// Main serves one call as CNI asks for: environment and standard input in,
// result or error on standard output, exit code 0 or 1. Nothing else is ever
// written to standard output.
func Main() {
	// A runtime that is gone shows as an error of our write, and the ADD that
	// nobody has heard of is undone.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p := &plugin{stdout: os.Stdout, undoTimeout: undoTimeout}
	skel.PluginMainFuncs(p.funcs(ctx), Versions, about)
}

type plugin struct {
	stdout      io.Writer
	undoTimeout time.Duration
}

func (p *plugin) funcs(ctx context.Context) skel.CNIFuncs {
	with := func(f func(context.Context, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return f(ctx, args) }
	}
	return skel.CNIFuncs{
		Add:    with(p.add),
		Del:    with(p.del),
		Check:  with(p.check),
		GC:     with(p.gc),
		Status: with(p.status),
	}
}
