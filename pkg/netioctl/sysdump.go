// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Bounds of a dump.
const (
	dumpTime  = 2 * time.Minute
	partTime  = 20 * time.Second // of one file: who hangs costs the others little
	dumpRoom  = 256 << 20        // bytes in all, before compression
	dumpLimit = 64 << 20         // bytes of one file
	dumpFlows = 20_000
)

func (a *app) sysdumpCommand() *cobra.Command {
	var file, agentConfig string
	cmd := &cobra.Command{
		Use:   "sysdump",
		Short: "Collect what there is to know of this machine's network into a file",
		Long: `Collect what there is to know of this machine's network into one tar.gz, for
whoever is to find out what is wrong: status, problems, configurations, ports, flows,
drops and policies of agent and forwarder; links, addresses, routes, rules, NetIO's
nftables table, its sysctls, and the state of kernel and module.

What cannot be had is noted, in the archive's contents.txt too, and the rest is
collected. Packets' contents, keys and tokens are not in it; addresses, names and
labels of pods are. It takes two minutes at most.

Of a cluster, without --node, there is a file of each node.`,
		Example: `  netioctl sysdump
  netioctl sysdump -w - | ssh host 'cat > dump.tar.gz'`,
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "-" && a.terminal {
				return usagef("-w - would write an archive to the terminal; pipe it into something")
			}
			if a.cluster != nil {
				return a.sysdumpFar(cmd.Context(), file, agentConfig)
			}
			return a.sysdump(cmd.Context(), file, agentConfig)
		},
	}
	cmd.Flags().StringVarP(&file, "write", "w", "", `file to write, which must not exist; "-": the standard output; default: netio-sysdump-TIME.tar.gz here`)
	cmd.Flags().StringVar(&agentConfig, "agent-config", "/etc/netio/agent.yaml", "the agent's configuration file")
	return cmd
}

func (a *app) sysdump(ctx context.Context, file, agentConfig string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, dumpTime)
	defer cancel()
	if agentConfig, err = filepath.Abs(agentConfig); err != nil {
		return fmt.Errorf("find the agent's configuration: %w", err)
	}
	dir := "netio-sysdump-" + a.now().UTC().Format("20060102T150405Z")
	if file == "" {
		file = dir + ".tar.gz"
	}
	if file == "-" {
		return a.dump(ctx, a.out, a.errOut, dir, agentConfig)
	}
	return a.keepDump(file, func(f io.Writer) error { return a.dump(ctx, f, a.out, dir, agentConfig) })
}

// keepDump has an archive written into a file that must not exist, and is not left if
// that fails.
func (a *app) keepDump(file string, write func(io.Writer) error) error {
	// Nobody else's business; and nothing of anybody else's is written over.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("write archive: %w", closeErr)
	}
	if err != nil {
		os.Remove(file)
		return err
	}
	_, err = fmt.Fprintf(a.out, "\n%s: readable for its owner only; it has addresses, names and labels of pods\n", file)
	return err
}

// dumpPart is a file of a dump.
type dumpPart struct {
	name string
	tell func(context.Context, io.Writer) error
}

// dump writes the archive, and shows what is in it.
func (a *app) dump(ctx context.Context, to, show io.Writer, dir, agentConfig string) error {
	fw, g, end, err := a.both()
	if err != nil {
		return err
	}
	defer end()
	out := newArchive(to, dir, a.now(), dumpRoom, dumpLimit)
	parts := append(a.daemonParts(fw, g), a.host.parts(agentConfig)...)
	for _, p := range parts {
		err := out.add(p.name, func(w io.Writer) error {
			ctx, cancel := context.WithTimeout(ctx, partTime)
			defer cancel()
			return p.tell(ctx, w)
		})
		if err != nil {
			return err
		}
	}
	t := newTable(left("FILE"), right("SIZE"), left("NOTE"))
	for _, p := range out.parts {
		t.add(p.name, size(uint64(p.size)), text(p.err))
	}
	var contents bytes.Buffer
	if err := t.write(&contents); err != nil {
		return err
	}
	if err := out.write("contents.txt", contents.Bytes()); err != nil {
		return err
	}
	if err := out.close(); err != nil {
		return err
	}
	_, err = contents.WriteTo(show)
	return err
}

// daemonParts are what agent and forwarder tell.
func (a *app) daemonParts(fw *forwarder, g *agent) []dumpPart {
	return []dumpPart{
		{"version.txt", func(_ context.Context, w io.Writer) error {
			_, err := fmt.Fprintln(w, "netioctl", a.version, "at", a.now().UTC().Format(time.RFC3339))
			return err
		}},
		answer("forwarder/status.json", func(ctx context.Context) (proto.Message, error) {
			return fw.Status(ctx, &dataplanev1.StatusRequest{})
		}),
		answer("forwarder/config.json", func(ctx context.Context) (proto.Message, error) {
			return fw.Get(ctx, &dataplanev1.GetRequest{})
		}),
		answer("forwarder/ports.json", func(ctx context.Context) (proto.Message, error) {
			return fw.ListPorts(ctx, &dataplanev1.ListPortsRequest{})
		}),
		answer("forwarder/drops.json", func(ctx context.Context) (proto.Message, error) {
			return fw.ListDrops(ctx, &dataplanev1.ListDropsRequest{})
		}),
		{"forwarder/flows.jsonl", func(ctx context.Context, w io.Writer) error { return dumpAllFlows(ctx, fw, w) }},
		answer("agent/info.json", func(ctx context.Context) (proto.Message, error) {
			return g.Info(ctx, &agentv1.InfoRequest{})
		}),
		answer("agent/endpoints.json", func(ctx context.Context) (proto.Message, error) {
			return g.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
		}),
	}
}

// answer is a part that is the answer to a request, as indented JSON.
func answer(name string, ask func(context.Context) (proto.Message, error)) dumpPart {
	return dumpPart{name, func(ctx context.Context, w io.Writer) error {
		m, err := ask(ctx)
		if err != nil {
			return err
		}
		doc, err := marshal(m)
		if err != nil {
			return err
		}
		indented, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		_, err = w.Write(append(indented, '\n'))
		return err
	}}
}

// dumpAllFlows writes a flow a line, up to dumpFlows.
func dumpAllFlows(ctx context.Context, fw *forwarder, w io.Writer) error {
	stream, err := fw.ListFlows(ctx, &dataplanev1.ListFlowsRequest{Limit: dumpFlows})
	if err != nil {
		return err
	}
	for {
		fl, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line, err := marshal(fl)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
}
