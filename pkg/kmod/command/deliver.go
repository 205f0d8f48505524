// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/kmod"
)

// trialFile is in the cache, which outlives a boot.
const trialFile = "loading.json"

// delivery is what `kmod deliver` is told beside what all are.
type delivery struct {
	mode     string
	images   []string
	result   string
	required bool
	patience time.Duration
}

func (o *options) deliver() *cobra.Command {
	d := &delivery{}
	cmd := &cobra.Command{
		Use:   "deliver --mode MODE --result FILE",
		Short: "Get the module into a node's kernel, and note what came of it",
		Long: `Get the module into a node's kernel, and note what came of it: what the init
container of netio-agent's pods does. Whatever is in the way is noted in the result, which the
agent reports, and is no error: the exit code is 0 unless the command line is wrong, so that
a node which cannot have the module can have its network nevertheless.

Modes: Host takes what is in /lib/modules, Prebuilt what is in the first --image that is for
the kernel, Build builds it, and Auto tries these in this order. What is loaded and has the
right ABI is kept. A module with another ABI is replaced if nothing uses it; instances
that have neither process nor pods are ended before.`,
		Example: `  netio-agent kmod deliver --mode Auto --root /host --cache /host/var/cache/netio/kmod \
    --image /images/0=6.1.0-47-amd64 --image '/images/1~^5\.14\..*\.el9' \
    --result /run/netio/kernel-module.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := d.parse()
			if err != nil {
				return err
			}
			return o.runDelivery(cmd, d, in)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.mode, "mode", string(kmod.ModeAuto), "`MODE`: Auto, Prebuilt, Build, Host")
	f.StringArrayVar(&d.images, "image", nil, "`FOLDER=RELEASE`, modules for the kernel of this release, or FOLDER~EXPRESSION, for those whose release a regular expression matches; may be given again")
	f.StringVar(&d.result, "result", "", "`FILE` for what came of it")
	f.BoolVar(&d.required, "required", false, "note that without the module pods are to have no network")
	f.DurationVar(&d.patience, "timeout", 0, "how long a build may take; 0: as long as it takes")
	f.BoolVar(&o.build.Link, "link-headers", false, "in a container that has a toolchain: link the host's headers to where they are on the host")
	o.buildFlags(cmd)
	return cmd
}

// parse checks the command line, which the operator has written.
func (d *delivery) parse() (kmod.Delivery, error) {
	in := kmod.Delivery{Mode: kmod.Mode(d.mode), Patience: d.patience}
	if !slices.Contains(kmod.Modes(), in.Mode) {
		return in, fmt.Errorf("--mode %q: expected one of %v", d.mode, kmod.Modes())
	}
	if d.result == "" {
		return in, errors.New("--result is missing: name the file for what comes of it")
	}
	for _, text := range d.images {
		i, err := parseImage(text)
		if err != nil {
			return in, fmt.Errorf("--image %q: %w", text, err)
		}
		in.Images = append(in.Images, i)
	}
	return in, nil
}

// parseImage reads FOLDER=RELEASE or FOLDER~EXPRESSION.
func parseImage(text string) (i kmod.Image, err error) {
	at := strings.IndexAny(text, "=~")
	if at < 1 || at == len(text)-1 {
		return i, errors.New("expected FOLDER=RELEASE or FOLDER~EXPRESSION")
	}
	i.Dir = text[:at]
	if text[at] == '=' {
		i.Release = text[at+1:]
		return i, nil
	}
	i.Matching, err = regexp.Compile(text[at+1:])
	return i, err
}

// runDelivery does it, and notes and prints what came of it.
func (o *options) runDelivery(cmd *cobra.Command, d *delivery, in kmod.Delivery) error {
	ended, err := kmod.Begin(d.result, kmod.Outcome{Mode: in.Mode, Required: d.required})
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "what comes of the delivery cannot be noted:", err)
	}
	if ended != nil {
		return o.writeOutcome(cmd, ended)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	key, keyErr := o.optionalKey()
	o.prepareBuild()
	o.build.Key = key
	in.Build, in.Trial = o.build, filepath.Join(o.build.Cache, trialFile)
	out := kmod.Host(o.root).Deliver(ctx, in)
	out.Required = d.required
	if keyErr != nil {
		out.Notes = append(out.Notes, "modules are not signed: "+keyErr.Error())
	}
	if err := out.Write(d.result); err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "what came of the delivery cannot be noted:", err)
	}
	return o.writeOutcome(cmd, out)
}

// optionalKey reads the key, which may not be there: then there is none, and
// why.
func (o *options) optionalKey() (*kmod.Key, error) {
	if o.key.Private == "" && o.key.Certificate == "" {
		return nil, nil
	}
	for _, file := range []string{o.key.Private, o.key.Certificate} {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("the Secret of kernelModule.signingSecret is not there, or has no %s", filepath.Base(file))
		}
	}
	key, err := kmod.ReadKey(o.key)
	if err != nil {
		return nil, fmt.Errorf("the Secret of kernelModule.signingSecret: %w", err)
	}
	return key, nil
}

func (o *options) writeOutcome(cmd *cobra.Command, out *kmod.Outcome) error {
	if o.output == "json" {
		return writeJSON(cmd.OutOrStdout(), out)
	}
	t := newText(cmd.OutOrStdout())
	t.line("state", string(out.State))
	t.line("kernel", out.Kernel)
	if out.Version != "" || out.ABI != "" {
		t.line("module", join("version", first(out.Version, "unknown"), "ABI", first(out.ABI, "unknown"), out.Origin))
	}
	if p := out.Problem; p != nil {
		t.line("problem", fmt.Sprintf("%s: %s", p.Reason, p.Message))
		t.line("  to do", p.Cure)
	}
	for _, n := range out.Notes {
		t.line("note", n)
	}
	return t.Flush()
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
