// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"errors"
	"fmt"
)

// State is what stands between this machine and the kernel device.
type State string

// The states.
const (
	StateLoaded      State = "Loaded"      // nothing: it is in the kernel, with the right ABI
	StateOtherABI    State = "OtherABI"    // it is in the kernel, with another ABI
	StateLoadable    State = "Loadable"    // load it
	StateBuildable   State = "Buildable"   // build it and load it
	StateMissing     State = "Missing"     // something, which the problems name
	StateUnsupported State = "Unsupported" // this kernel takes no modules
)

// ExitCode is the exit code of kmod status in this state.
func (s State) ExitCode() int {
	switch s {
	case StateLoaded:
		return ExitLoaded
	case StateOtherABI:
		return ExitWrongABI
	case StateLoadable:
		return ExitLoadable
	case StateBuildable:
		return ExitBuildable
	case StateUnsupported:
		return ExitUnsupported
	}
	return ExitMissing
}

// Report is all that decides whether the module can be used.
type Report struct {
	State    State      `json:"state"`
	Summary  string     `json:"summary"`            // the state in a sentence
	Problems []*Problem `json:"problems,omitempty"` // what is in the way, or will be
	WantABI  string     `json:"wantABI"`
	Kernel   *Running   `json:"kernel"`
	Security Security   `json:"security"`
	Loaded   *Loaded    `json:"loaded,omitempty"`
	Files    []*File    `json:"files,omitempty"`
	Headers  *Headers   `json:"headers,omitempty"`
	Source   string     `json:"source,omitempty"`
	Compiler []string   `json:"compiler,omitempty"` // make's arguments
}

// Report looks at everything and changes nothing. Errors are those of looking.
func (s *System) Report(search Search, b Build) (*Report, error) {
	k, err := s.Running()
	if err != nil {
		return nil, err
	}
	r := &Report{Kernel: k, WantABI: wantABI, Security: s.Security(k)}
	if r.Loaded, err = s.Loaded(k); err != nil {
		return nil, err
	}
	unsupported := s.takesModules(k)
	if unsupported == nil {
		if r.Files, err = s.Files(k, search); err != nil {
			return nil, err
		}
	}
	switch {
	case r.Loaded != nil:
		r.Loaded.completeABI(r.Files...)
		r.ofLoaded(unsupported)
		return r, nil
	case unsupported != nil:
		r.State, r.Summary, r.Problems = StateUnsupported, unsupported.Message, []*Problem{unsupported}
		return r, nil
	}
	if len(r.Files) > 0 && r.Files[0].Fits {
		r.ofFile(s, r.Files[0])
		return r, nil
	}
	return r, s.ofBuild(r, b)
}

// ofLoaded: what is in the kernel decides.
func (r *Report) ofLoaded(unsupported *Problem) {
	l := r.Loaded
	where := "loaded"
	if l.BuiltIn {
		where = "built into the kernel"
	}
	if abiServes(l.ABI) {
		r.State = StateLoaded
		r.Summary = fmt.Sprintf("the module is %s, version %s, ABI %s", where, first(l.Version, "unknown"), l.ABI)
		return
	}
	r.State = StateOtherABI
	r.Summary = fmt.Sprintf("the module is %s with %s, this program needs %s", where, named(l.ABI), wantABI)
	used := l.inUse()
	switch {
	case l.BuiltIn:
		r.Problems = append(r.Problems, problem(BuiltIn, "boot a kernel with another or without it (CONFIG_NETIO), or use the soft device", "%s", r.Summary))
	case used != nil:
		r.Problems = append(r.Problems, problem(WrongABI, "", "%s", r.Summary), used)
	case unsupported != nil:
		r.Problems = append(r.Problems, problem(WrongABI, "", "%s", r.Summary), unsupported)
	default:
		r.Problems = append(r.Problems, problem(WrongABI, "nothing uses it, so load another in its place (netio-agent kmod load)", "%s", r.Summary))
	}
}

// ofFile: there is one that fits.
func (r *Report) ofFile(s *System, f *File) {
	r.State, r.Summary = StateLoadable, fmt.Sprintf("the module is not loaded; %s fits (netio-agent kmod load)", f.Path)
	r.permission()
	if p := s.wouldBeRefused(f, r.Security); p != nil {
		r.Problems = append(r.Problems, p)
	}
	if len(r.Problems) > 0 {
		r.State, r.Summary = StateMissing, "the module is not loaded; "+r.Problems[0].Message
	}
}

// permission is missing, if it is.
func (r *Report) permission() {
	if !r.Security.Capable {
		r.Problems = append(r.Problems, problem(NoPermission, "be root; in a container, run it privileged or give it CAP_SYS_MODULE", "loading modules needs CAP_SYS_MODULE"))
	}
}

// ofBuild: can one be built? All that is missing is listed, not the first only.
func (s *System) ofBuild(r *Report, b Build) error {
	note := func(err error) error {
		var p *Problem
		if errors.As(err, &p) {
			r.Problems = append(r.Problems, p)
			return nil
		}
		return err
	}
	h, err := s.FindHeaders(r.Kernel, b.Headers)
	if err := note(err); err != nil {
		return err
	}
	if r.Headers = h; h != nil {
		tools, err := s.FindToolchain(r.Kernel, h, b)
		if err := note(err); err != nil {
			return err
		}
		if tools != nil {
			r.Compiler = tools.Args
		}
	}
	src, err := s.FindSource(b.Source, b.Program, b.Version)
	if err := note(err); err != nil {
		return err
	}
	if src != nil {
		r.Source = src.Dir
	}
	buildable := len(r.Problems) == 0
	r.permission()
	if r.Security.NeedsSignature() && b.Key == nil {
		r.Problems = append(r.Problems, problem(KeyRejected, enrolCure(r.Security, false), "the kernel takes signed modules only, and there is no key to sign with"))
	}
	if !buildable || len(r.Problems) > 0 {
		none := noModule(r.Kernel, r.Files, "")
		if !buildable {
			r.Problems = append([]*Problem{none}, r.Problems...)
		}
		r.State, r.Summary = StateMissing, "the module is not loaded, and it cannot be yet"
		return nil
	}
	r.State, r.Summary = StateBuildable, "the module is not loaded; none fits, but it can be built (netio-agent kmod load --build)"
	return nil
}
