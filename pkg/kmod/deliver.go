// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Mode says where a delivery takes the module from.
type Mode string

// The modes. What is loaded already, and serves, is kept in all of them.
const (
	// ModeAuto tries what the others do: Host, then Prebuilt if there are images, then Build.
	ModeAuto Mode = "Auto"
	// ModeHost takes what is in /lib/modules.
	ModeHost Mode = "Host"
	// ModePrebuilt takes what is in the first of the images that is for the kernel.
	ModePrebuilt Mode = "Prebuilt"
	// ModeBuild builds it.
	ModeBuild Mode = "Build"
)

// Modes are all of them.
func Modes() []Mode { return []Mode{ModeAuto, ModePrebuilt, ModeBuild, ModeHost} }

// Image is a folder with modules, as that of a container image that is mounted.
type Image struct {
	Dir string
	// Release is the kernel's, whole; or Matching matches it.
	Release  string
	Matching *regexp.Regexp
}

// isFor tells whether the image is for a kernel.
func (i *Image) isFor(release string) bool {
	if i.Matching != nil {
		return i.Matching.MatchString(release)
	}
	return i.Release == release
}

// Delivery says how a node gets the module.
type Delivery struct {
	Mode   Mode
	Images []Image
	Build  Build
	// Patience is how long a build may take, 0 for as long as it takes.
	Patience time.Duration
	// Trial is as in Load.
	Trial string
}

// Where a delivered module is from.
const (
	OriginLoaded = "Loaded" // it was there
	OriginHost   = "Host"
	OriginImage  = "Image"
	OriginBuild  = "Build"
)

// Outcome is what became of a delivery.
type Outcome struct {
	State   State  `json:"state"`
	Mode    Mode   `json:"mode"`
	Kernel  string `json:"kernel,omitempty"` // its release
	Version string `json:"version,omitempty"`
	ABI     string `json:"abi,omitempty"`
	Origin  string `json:"origin,omitempty"`
	// Problem is why the module that this program needs is not in the kernel, nil if
	// it is. It has the reason that is closest to the goal, and says what each way came to.
	Problem *Problem `json:"problem,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// Required: without the module pods are to have no network.
	Required bool `json:"required,omitempty"`
	// Attempts that were begun and did not end, in a file of an outcome.
	Attempts int       `json:"attempts,omitempty"`
	Time     time.Time `json:"time"`
}

// attempt is one way that was tried in vain.
type attempt struct {
	way     Mode
	problem *Problem
}

// Deliver sees to it that the module is in the kernel, in one of the ways of the mode, and
// tells what came of it. Whatever goes wrong is in the outcome.
func (s *System) Deliver(ctx context.Context, d Delivery) *Outcome {
	out := &Outcome{Mode: d.Mode, State: StateMissing, Time: time.Now().UTC().Truncate(time.Second)}
	k, err := s.Running()
	if err != nil {
		out.Problem = s.asProblem(err)
		return out
	}
	out.Kernel = k.Release
	if note := s.endIdle(k); note != "" {
		out.Notes = append(out.Notes, note)
	}
	var tried []attempt
	for _, way := range d.ways() {
		res, p := s.deliverBy(ctx, k, &d, way)
		if p == nil {
			out.loaded(res, way)
			return out
		}
		tried = append(tried, attempt{way, p})
		if p.final() {
			break
		}
	}
	out.failed(s, k, tried)
	return out
}

// ways are those of the mode, in the order in which they are tried.
func (d *Delivery) ways() []Mode {
	switch {
	case d.Mode != ModeAuto:
		return []Mode{d.Mode}
	case len(d.Images) > 0:
		return []Mode{ModeHost, ModePrebuilt, ModeBuild}
	}
	return []Mode{ModeHost, ModeBuild}
}

// deliverBy tries one way.
func (s *System) deliverBy(ctx context.Context, k *Running, d *Delivery, way Mode) (*Result, *Problem) {
	in := Load{Trial: d.Trial}
	switch way {
	case ModeHost:
	case ModePrebuilt:
		at := slices.IndexFunc(d.Images, func(i Image) bool { return i.isFor(k.Release) })
		in.Search.Only = true
		if at >= 0 {
			in.Search.Dirs = []string{d.Images[at].Dir}
		} else if l, err := s.Loaded(k); err == nil && l == nil {
			return nil, problem(NoModule, "name one in kernelModule.images", "no image is for kernel %s", k.Release)
		}
	case ModeBuild:
		in.Search.Only, in.Build = true, &d.Build
		if d.Patience > 0 {
			limited, cancel := context.WithTimeout(ctx, d.Patience)
			defer cancel()
			ctx = limited
		}
	}
	res, err := s.LoadModule(ctx, k, in)
	switch {
	case err == nil:
		return res, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, problem(BuildFailed, "raise kernelModule.build.timeout", "the build takes longer than %v", d.Patience).of(err)
	case errors.Is(err, context.Canceled):
		return nil, problem(Interrupted, "", "it was interrupted").of(err)
	}
	p := s.asProblem(err)
	p.Cure = d.cure(way, p)
	return nil, p
}

// asProblem makes one of any error, with paths as the system's people know them.
func (s *System) asProblem(err error) *Problem {
	var p *Problem
	if !errors.As(err, &p) {
		p = problem(LoadFailed, "", "%v", err).of(err)
	}
	if s.Root != "/" {
		root := filepath.Clean(s.Root) + "/"
		p.Message, p.Cure = strings.ReplaceAll(p.Message, root, "/"), strings.ReplaceAll(p.Cure, root, "/")
	}
	return p
}

// cure is what helps in a cluster, where nobody types the command.
func (d *Delivery) cure(way Mode, p *Problem) string {
	switch {
	case p.Reason == InUse:
		return "drain the node and delete its netio-agent pods; if other pods with interfaces are left there, reboot it then"
	case p.Reason == ModulesUnsupported || p.Reason == ModulesDisabled:
		return strings.TrimRight(strings.TrimSuffix(p.Cure, "or use the soft device"), ",; ")
	case way == ModeHost && (p.Reason == NoModule || p.Reason == WrongABI || p.Reason == WrongKernel):
		return "put one that fits into /lib/modules of the node"
	case way == ModePrebuilt && (p.Reason == NoModule || p.Reason == WrongABI || p.Reason == WrongKernel):
		return "put one that fits into the image of kernelModule.images for this kernel"
	case way == ModeBuild && (p.Reason == Lockdown || p.Reason == KeyRejected) && d.Build.Key == nil:
		return "name the key to sign with in kernelModule.signingSecret: " + p.Cure
	case p.Reason == NoToolchain:
		return p.Cure + ", or name an image that has a toolchain in kernelModule.build.image"
	case p.Reason == ReadOnly:
		return "name a folder of the node that can be written in kernelModule.build.cacheDir"
	}
	return p.Cure
}

// final tells that other ways come to the same.
func (p *Problem) final() bool {
	switch p.Reason {
	case ModulesUnsupported, ModulesDisabled, NoPermission, BuiltIn, InUse, Interrupted:
		return true
	}
	return false
}

// rank is how close a reason is to the goal: a module that is refused was there at least.
func (p *Problem) rank() int {
	switch p.Reason {
	case NoModule:
		return 0
	case NoHeaders, NoToolchain, NoSource:
		return 1
	case WrongKernel, WrongABI, BuildFailed, ReadOnly:
		return 2
	}
	return 3
}

func (o *Outcome) loaded(res *Result, way Mode) {
	o.State, o.Version, o.ABI = StateLoaded, res.Version, res.ABI
	o.Notes = append(o.Notes, res.Notes...)
	switch {
	case res.Action == "kept":
		o.Origin = OriginLoaded
	case way == ModePrebuilt:
		o.Origin = OriginImage
	default:
		o.Origin = string(way)
	}
}

// failed tells what each way came to, those first that came closest.
func (o *Outcome) failed(s *System, k *Running, tried []attempt) {
	slices.SortStableFunc(tried, func(a, b attempt) int { return cmp.Compare(b.problem.rank(), a.problem.rank()) })
	var says, cures []string
	for _, t := range tried {
		says = append(says, t.problem.Message)
		if c := t.problem.Cure; c != "" && !slices.Contains(cures, c) {
			cures = append(cures, c)
		}
	}
	o.Problem = problem(tried[0].problem.Reason, strings.Join(cures, "; or "), "%s", strings.Join(says, "; "))
	switch l, err := s.Loaded(k); {
	case err == nil && l != nil && !abiServes(l.ABI):
		o.State, o.Version, o.ABI = StateOtherABI, l.Version, l.ABI
	case o.Problem.Reason == ModulesUnsupported || o.Problem.Reason == ModulesDisabled:
		o.State = StateUnsupported
	}
}

// endIdle ends what keeps a module with another ABI in the kernel though no process and no
// pod uses it, and tells what that was.
func (s *System) endIdle(k *Running) string {
	l, err := s.Loaded(k)
	if err != nil || l == nil || l.BuiltIn || abiServes(l.ABI) || len(l.Processes) > 0 {
		return ""
	}
	ended, err := s.EndIdle()
	switch {
	case err != nil:
		return "what the module has left cannot be ended: " + err.Error()
	case len(ended) > 0:
		return fmt.Sprintf("ended what nobody used of the module with ABI %s: %s", l.ABI, strings.Join(ended, ", "))
	}
	return ""
}
