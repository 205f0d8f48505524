// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Load says what is loaded, and from where.
type Load struct {
	Search Search
	Build  *Build   // if nothing fits; nil: do not build
	Params []string // of the module: name=value
	// Replace a loaded module that would do by the one that was found, if that
	// is another and nothing uses the loaded one.
	Replace bool
	// Trial is a file that notes which module the kernel is being given, "" for none:
	// one that brings the machine down is not loaded again at the next boot.
	Trial string
}

// Result tells what was done.
type Result struct {
	Action  string   `json:"action"` // loaded, replaced, kept
	Path    string   `json:"path,omitempty"`
	Version string   `json:"version,omitempty"`
	ABI     string   `json:"abi"`
	Built   *Built   `json:"built,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// LoadModule sees to it that a module with this program's ABI is in the kernel. One that is there
// and serves is kept; one with another ABI, or another one if that was asked for, is replaced
// if nothing uses it. Afterwards the kernel is asked which ABI it has now; a module with a wrong one is taken out
// again. Errors are Problems, of every reason; a wrong parameter, a directory or file to search
// that is not there, and the error of the context are plain errors.
func (s *System) LoadModule(ctx context.Context, k *Running, in Load) (*Result, error) {
	if p := checkParams(in.Params); p != nil {
		return nil, p
	}
	loaded, err := s.Loaded(k)
	if err != nil {
		return nil, err
	}
	if loaded != nil {
		// A file or directory that is not there is told where one is needed.
		files, _ := s.Files(k, in.Search)
		loaded.completeABI(files...)
		if done, err := s.keepLoaded(loaded, in); done != nil || err != nil {
			return done, err
		}
	}
	if p := s.takesModules(k); p != nil {
		return nil, p
	}
	f, built, err := s.choose(ctx, k, in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if p := f.knows(in.Params); p != nil {
		return nil, p
	}
	res := &Result{Action: "loaded", Path: f.Path, Version: f.Version, Built: built}
	if built != nil && built.Note != "" {
		res.Notes = append(res.Notes, built.Note)
	}
	sec := s.Security(k)
	end, err := s.try(f, in.Trial)
	if err != nil {
		return nil, err
	}
	defer end()
	if loaded != nil {
		if same(loaded, f) {
			return &Result{Action: "kept", Version: loaded.Version, ABI: loaded.ABI, Notes: []string{"the module that was found is the one that is loaded"}}, nil
		}
		if p := s.wouldBeRefused(f, sec); p != nil {
			p.Message = "the loaded module stays: " + p.Message
			return nil, p
		}
		if err := s.unload(loaded, sec); err != nil {
			return nil, err
		}
		res.Action = "replaced"
	}
	if err := s.insert(f, k, sec, in.Params); err != nil {
		return nil, err
	}
	return s.checkLoaded(k, f, res, sec)
}

// checkParams: a parameter with a space would become two (the kernel's parse_args).
func checkParams(params []string) error {
	for _, p := range params {
		if name, _, ok := strings.Cut(p, "="); !ok || name == "" || strings.ContainsAny(name, " \t\n\"") {
			return fmt.Errorf("parameter %q: expected name=value", p)
		}
		if strings.ContainsAny(p, "\n\"") {
			return fmt.Errorf("parameter %q: quotes and line ends cannot be in a value", p)
		}
	}
	return nil
}

// knows tells that the module has parameters of these names: the kernel would only log
// that it ignores one.
func (f *File) knows(params []string) *Problem {
	for _, p := range params {
		name, _, _ := strings.Cut(p, "=")
		if !slices.Contains(f.Parameters, strings.ReplaceAll(name, "-", "_")) {
			has := "none"
			if len(f.Parameters) > 0 {
				has = strings.Join(f.Parameters, ", ")
			}
			return problem(WrongParameter, "its parameters: "+has, "%s has no parameter %s", f.Path, name)
		}
	}
	return nil
}

func joinParams(params []string) string {
	quoted := make([]string, len(params))
	for i, p := range params {
		name, value, _ := strings.Cut(p, "=")
		if strings.ContainsAny(value, " \t") {
			value = `"` + value + `"`
		}
		quoted[i] = name + "=" + value
	}
	return strings.Join(quoted, " ")
}

// keepLoaded decides whether what is loaded stays; neither result nor error: it is to be replaced.
func (s *System) keepLoaded(l *Loaded, in Load) (*Result, error) {
	kept := &Result{Action: "kept", Version: l.Version, ABI: l.ABI}
	serves := abiServes(l.ABI)
	if l.BuiltIn {
		if serves {
			return kept, nil
		}
		return nil, problem(BuiltIn, "boot a kernel with another or without it (CONFIG_NETIO), or use the soft device",
			"the module is built into the kernel, with %s; this program needs %s", named(l.ABI), wantABI)
	}
	if serves && !in.Replace {
		if len(in.Params) > 0 {
			kept.Notes = append(kept.Notes, "parameters were not applied; to apply them: netio-agent kmod unload, then load")
		}
		return kept, nil
	}
	p := l.inUse()
	if p == nil {
		return nil, nil
	}
	if serves {
		kept.Notes = append(kept.Notes, "not replaced: "+p.Error())
		return kept, nil
	}
	p.Message = fmt.Sprintf("the loaded module has %s, this program needs %s, and it cannot be replaced: %s", named(l.ABI), wantABI, p.Message)
	return nil, p
}

// choose takes the first file that fits, or builds one.
func (s *System) choose(ctx context.Context, k *Running, in Load) (*File, *Built, error) {
	files, err := s.Files(k, in.Search)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if f.Fits {
			opened, err := openFile(f.Path)
			return opened, nil, err
		}
	}
	if in.Build == nil {
		return nil, nil, noModule(k, files, "build one (netio-agent kmod load --build), or name a directory that has one (--dir)")
	}
	built, err := s.BuildModule(ctx, k, *in.Build)
	if err != nil {
		return nil, nil, err
	}
	f, err := openFile(built.Path)
	if err != nil {
		return nil, nil, err
	}
	if f.judge(k, ""); !f.Fits {
		f.Close()
		return nil, nil, problem(f.why, "build it from the source that belongs to this program", "%s does not fit: %s", built.Path, f.Why)
	}
	return f, built, nil
}

// noModule says why none of the files will do: the reason of the only one, if
// there is one.
func noModule(k *Running, files []*File, cure string) *Problem {
	if len(files) == 0 {
		return problem(NoModule, cure, "there is no netio.ko for kernel %s", k.Release)
	}
	reason := NoModule
	why := make([]string, len(files))
	for i, f := range files {
		why[i] = f.Path + ": " + f.Why
		if i == 0 || f.why == reason {
			reason = f.why
		} else {
			reason = NoModule
		}
	}
	if len(why) > 3 {
		why = append(why[:3], fmt.Sprintf("and %d more", len(files)-3))
	}
	return problem(reason, cure, "no netio.ko fits kernel %s (%s)", k.Release, strings.Join(why, "; "))
}

// wouldBeRefused tells that an unsigned file has no chance.
func (s *System) wouldBeRefused(f *File, sec Security) *Problem {
	if f.Signature != nil || !sec.NeedsSignature() {
		return nil
	}
	if sec.lockedDown() {
		return problem(Lockdown, enrolCure(sec, false), "the kernel is locked down (%s) and takes signed modules only; %s is not signed", sec.Lockdown, f.Path)
	}
	return problem(KeyRejected, enrolCure(sec, false), "the kernel takes signed modules only; %s is not signed", f.Path)
}

// insert loads a file, and before it what it depends on.
func (s *System) insert(f *File, k *Running, sec Security, params []string) error {
	var needs []string
	for _, name := range f.Depends {
		if !s.exists("/sys/module/" + strings.ReplaceAll(name, "-", "_")) {
			needs = append(needs, name)
		}
	}
	files, err := s.dependencies(k.Release, needs)
	if err != nil {
		return problem(UnknownSymbol, "install the kernel's modules, or load them (modprobe "+strings.Join(needs, " ")+")",
			"the module depends on %s, which are not found: %v", strings.Join(needs, ", "), err).of(err)
	}
	for _, path := range files {
		need, err := openFile(s.path(path))
		if err != nil {
			return fmt.Errorf("open a module that is depended on: %w", err)
		}
		err = s.finit(need, k, sec, "")
		need.Close()
		if err != nil {
			return fmt.Errorf("load %s, which is depended on: %w", need.Name, err)
		}
	}
	return s.finit(f, k, sec, joinParams(params))
}

// finit loads one file. That it is there already is no error: two may try at once.
func (s *System) finit(f *File, k *Running, sec Security, params string) error {
	// What may not be read is not told.
	before, _ := s.Kernel.Log()
	err := s.Kernel.Load(f.data, params)
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	after, _ := s.Kernel.Log()
	return s.explainLoad(err, f, k, sec, newLines(before, after, f.Name))
}

// checkLoaded asks the kernel what it has now.
func (s *System) checkLoaded(k *Running, f *File, res *Result, sec Security) (*Result, error) {
	now, err := s.Loaded(k)
	if err != nil {
		return nil, err
	}
	if now == nil {
		return nil, problem(LoadFailed, "mount sysfs on /sys", "the module is loaded, but /sys/module/netio is not there")
	}
	now.completeABI(f)
	res.ABI, res.Version = now.ABI, first(now.Version, res.Version)
	if abiServes(now.ABI) {
		if !now.Device {
			res.Notes = append(res.Notes, DeviceFile+" is not there; in a container, mount the host's /dev")
		}
		return res, nil
	}
	p := problem(WrongABI, "use the module that belongs to this program", "%s has %s in the kernel, this program needs %s; it was unloaded again", res.Path, named(now.ABI), wantABI)
	if err := s.unload(now, sec); err != nil {
		p.Message = strings.Replace(p.Message, "it was unloaded again", "it stays loaded: "+err.Error(), 1)
	}
	return nil, p
}

// UnloadModule takes the module out of the kernel; false if it was not there. It does not
// wait for users. Errors are Problems: BuiltIn, InUse, NoPermission, LoadFailed.
func (s *System) UnloadModule(k *Running) (bool, error) {
	l, err := s.Loaded(k)
	if err != nil || l == nil {
		return false, err
	}
	if l.BuiltIn {
		return false, problem(BuiltIn, "boot a kernel without it (CONFIG_NETIO)", "the module is built into the kernel")
	}
	return true, s.unload(l, s.Security(k))
}

func (s *System) unload(l *Loaded, sec Security) error {
	if p := l.inUse(); p != nil {
		return p
	}
	err := s.Kernel.Unload(Name)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.explainUnload(err, l, sec)
}
