// SPDX-License-Identifier: Apache-2.0

// Package command is `netio-agent kmod`: the command line of package kmod.
package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/kmod"
)

// options of all subcommands.
type options struct {
	version string
	root    string
	output  string
	search  kmod.Search
	build   kmod.Build
	key     kmod.KeyFiles
}

// exit is an error that chooses the exit code of the program.
type exit struct {
	error
	code int
}

// Unwrap is the error itself.
func (e exit) Unwrap() error { return e.error }

// ExitStatus is what the program exits with.
func (e exit) ExitStatus() int { return e.code }

// errShown says by its emptiness that what is wrong was printed already.
var errShown = errors.New("")

// New is `netio-agent kmod`.
func New(version string) *cobra.Command {
	o := &options{version: version}
	cmd := &cobra.Command{
		Use:   "kmod",
		Short: "Build, sign, load and unload the kernel module",
		Long: `Build, sign, load and unload the kernel module netio.ko, and say what is
in its way.

Exit codes: 0 the module is loaded and has the right ABI, or what was asked for
is done; 1 another error; 3 a module with another ABI is loaded; 4 not loaded, but a
file is there that fits; 5 not loaded, but it can be built; 6 something is
missing, and the message says what and how to get it; 7 this kernel takes no
modules; 8 the module is in use.`,
		Args: cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if o.output != "table" && o.output != "json" {
				return fmt.Errorf("--output %q: expected table or json", o.output)
			}
			return nil
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.root, "root", "/", "`FOLDER` where the host's root is, in a container that has it elsewhere; other flags name paths in the container")
	f.StringVarP(&o.output, "output", "o", "table", "`FORMAT`: table, json")
	cmd.AddCommand(o.status(), o.buildCommand(), o.load(), o.unload(), o.sign(), o.deliver())
	return cmd
}

func (o *options) searchFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.search.Dirs, "dir", nil, "look for modules in this `FOLDER` first; may be given again")
	f.StringVar(&o.search.File, "file", "", "this module `FILE`, and no other")
}

func (o *options) buildFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.build.Source, "source", "", "`FOLDER` with the module's source; default: kmod beside the program, or /usr/src/netio-VERSION")
	f.StringVar(&o.build.Headers, "headers", "", "`FOLDER` with the kernel's headers; default: /lib/modules/RELEASE/build")
	f.StringVar(&o.build.CC, "cc", "", "`COMPILER`; default: the one that the kernel was built with")
	f.StringVar(&o.build.Cache, "cache", kmod.DefaultCache, "`FOLDER` where built modules are kept")
	o.keyFlags(cmd)
}

func (o *options) keyFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.key.Private, "key", "", "private key to sign with, a PEM `FILE`")
	f.StringVar(&o.key.Certificate, "cert", "", "its certificate, a PEM or DER `FILE`")
	f.StringVar(&o.build.Hash, "hash", "", "sha256, sha384 or sha512; default: as the kernel's own modules")
}

// prepareBuild completes what a build has to know of this program.
func (o *options) prepareBuild() {
	o.build.Version = o.version
	if program, err := os.Executable(); err == nil {
		o.build.Program = program
	}
}

// prepare completes the options from flags.
func (o *options) prepare() error {
	o.search.Cache = o.build.Cache
	o.prepareBuild()
	if (o.key.Private == "") != (o.key.Certificate == "") {
		return errors.New("--key and --cert belong together: give both")
	}
	if o.key.Private != "" {
		key, err := kmod.ReadKey(o.key)
		if err != nil {
			return err
		}
		o.build.Key = key
	}
	return nil
}

// run wraps what a subcommand does: an error has its exit code, and with -o json
// a problem is an object too.
func (o *options) run(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := do(cmd, args)
		var p *kmod.Problem
		if !errors.As(err, &p) {
			return err
		}
		if o.output == "json" {
			if jerr := writeJSON(cmd.OutOrStdout(), map[string]any{"problem": p}); jerr != nil {
				return jerr
			}
		}
		return exit{err, p.ExitCode()}
	}
}

func (o *options) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether the module is loaded, and what is in its way",
		Long: `Show whether the module is loaded, and what is in its way: the kernel, its
demands on signatures, files that fit it, headers and compiler to build with.
Changes nothing. The exit code tells the state (see netio-agent kmod --help).`,
		Args: cobra.NoArgs,
		RunE: o.run(func(cmd *cobra.Command, _ []string) error {
			if err := o.prepare(); err != nil {
				return err
			}
			r, err := kmod.Host(o.root).Report(o.search, o.build)
			if err != nil {
				return err
			}
			if o.output == "json" {
				err = writeJSON(cmd.OutOrStdout(), r)
			} else {
				err = writeReport(cmd.OutOrStdout(), r)
			}
			if err != nil {
				return err
			}
			if code := r.State.ExitCode(); code != 0 {
				return exit{errShown, code}
			}
			return nil
		}),
	}
	o.searchFlags(cmd)
	o.buildFlags(cmd)
	return cmd
}

func (o *options) buildCommand() *cobra.Command {
	var release string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the module for the running kernel, and print its path",
		Long: `Build the module for the running kernel, and print its path. It is kept in
the cache by kernel release and content of the source, and built again only if one
of these has changed. With --key and --cert it is signed.`,
		Args: cobra.NoArgs,
		RunE: o.run(func(cmd *cobra.Command, _ []string) error {
			if err := o.prepare(); err != nil {
				return err
			}
			s := kmod.Host(o.root)
			k, err := s.Running()
			if err != nil {
				return err
			}
			if release != "" {
				k.Release = release
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			built, err := s.BuildModule(ctx, k, o.build)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), built)
			}
			if built.Note != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "note:", built.Note)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), built.Path)
			return err
		}),
	}
	o.buildFlags(cmd)
	cmd.Flags().StringVar(&release, "kernel", "", "build for the kernel of this `RELEASE`, not for the running one")
	return cmd
}

func (o *options) load() *cobra.Command {
	var build, replace bool
	cmd := &cobra.Command{
		Use:   "load [PARAMETER=VALUE...]",
		Short: "Load the module that fits, or build it first",
		Long: `Load the module that fits the running kernel and this program, with parameters
of the module. It is looked for in --dir, in the cache of built ones, and in
/lib/modules; with --build it is built if none fits.

A loaded module that has the right ABI is kept. One with another ABI is replaced,
if nothing uses it; else nothing is changed, and the message says what uses it.`,
		Example: `  netio-agent kmod load
  netio-agent kmod load --build --key mok.pem --cert mok.der
  netio-agent kmod load --dir /opt/modules`,
		RunE: o.run(func(cmd *cobra.Command, args []string) error {
			if err := o.prepare(); err != nil {
				return err
			}
			s := kmod.Host(o.root)
			k, err := s.Running()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			in := kmod.Load{Search: o.search, Params: args, Replace: replace}
			if build {
				in.Build = &o.build
			}
			res, err := s.LoadModule(ctx, k, in)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), res)
			}
			return writeResult(cmd.OutOrStdout(), res)
		}),
	}
	o.searchFlags(cmd)
	o.buildFlags(cmd)
	cmd.Flags().BoolVar(&build, "build", false, "build the module if none fits")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace a loaded module of another version too, if nothing uses it")
	return cmd
}

func (o *options) unload() *cobra.Command {
	var idle bool
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Unload the module, if nothing uses it",
		Long: `Unload the module, if nothing uses it. A forwarder that has ended leaves its
instance, with the host's interface: --end-idle ends such ones first, if no process
has them and no pod has an interface of theirs. That is what an uninstallation needs.`,
		Args: cobra.NoArgs,
		RunE: o.run(func(cmd *cobra.Command, _ []string) error {
			s := kmod.Host(o.root)
			k, err := s.Running()
			if err != nil {
				return err
			}
			var ended []string
			if idle {
				if ended, err = s.EndIdle(); err != nil {
					return err
				}
			}
			was, err := s.UnloadModule(k)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"unloaded": was, "ended": ended})
			}
			for _, name := range ended {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "ended the instance %s, which nobody used\n", name); err != nil {
					return err
				}
			}
			text := "the module was not loaded"
			if was {
				text = "the module is unloaded"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		}),
	}
	cmd.Flags().BoolVar(&idle, "end-idle", false, "first end instances that no process owns and no pod has an interface of")
	return cmd
}

func (o *options) sign() *cobra.Command {
	var generate bool
	var name string
	cmd := &cobra.Command{
		Use:   "sign --key FILE --cert FILE [--generate] [MODULE...]",
		Short: "Sign modules for kernels that take only signed ones, or make a key",
		Long: `Sign module files in place, as the kernel's sign-file does. With --generate a
key and a certificate are made first, in files that must not exist yet.

Keys of DKMS (/var/lib/dkms/mok.key, mok.pub) and of Ubuntu's shim
(/var/lib/shim-signed/mok/MOK.priv, MOK.der) can be used as they are.`,
		Example: `  netio-agent kmod sign --generate --key mok.pem --cert mok.der
  netio-agent kmod sign --key mok.pem --cert mok.der netio.ko`,
		RunE: o.run(func(cmd *cobra.Command, args []string) error {
			if o.key.Private == "" || o.key.Certificate == "" {
				return errors.New("give --key and --cert; --generate makes them")
			}
			if !generate && len(args) == 0 {
				return errors.New("name the module files to sign")
			}
			out := &signed{Key: o.key.Private, Certificate: o.key.Certificate}
			if generate {
				key, err := kmod.GenerateKey(name, time.Now())
				if err != nil {
					return err
				}
				if err := key.Write(o.key); err != nil {
					return fmt.Errorf("%w; choose other files, or leave --generate out to use the key that is there", err)
				}
				out.Generated = true
			}
			key, err := kmod.ReadKey(o.key)
			if err != nil {
				return err
			}
			hash := o.build.Hash
			if hash == "" {
				hash = kmod.Host(o.root).SignatureHash()
			}
			for _, file := range args {
				if err := kmod.SignFile(file, key, hash); err != nil {
					return err
				}
				out.Files = append(out.Files, file)
			}
			if o.output == "json" {
				return writeJSON(cmd.OutOrStdout(), out)
			}
			return out.write(cmd.OutOrStdout())
		}),
	}
	o.keyFlags(cmd)
	cmd.Flags().BoolVar(&generate, "generate", false, "make key and certificate")
	cmd.Flags().StringVar(&name, "name", "NetIO module signing", "common `NAME` in the certificate that is made")
	return cmd
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
