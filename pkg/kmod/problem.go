// SPDX-License-Identifier: Apache-2.0

package kmod

import "fmt"

// Reason says in a word what is in the way of the module. The words are
// stable: programs and conditions of Kubernetes objects may use them.
type Reason string

// The reasons.
const (
	ModulesUnsupported Reason = "ModulesUnsupported" // the kernel was built without loadable modules
	ModulesDisabled    Reason = "ModulesDisabled"    // turned off until the next boot
	NoPermission       Reason = "NoPermission"       // CAP_SYS_MODULE, or a security module says no
	Lockdown           Reason = "Lockdown"           // the kernel is locked down, the module not signed
	KeyRejected        Reason = "KeyRejected"        // no signature by a key that the kernel trusts
	WrongKernel        Reason = "WrongKernel"        // the file is for another kernel
	WrongParameter     Reason = "WrongParameter"     // the module does not have it, or not with this value
	WrongABI           Reason = "WrongABI"           // the module has another ABI than this program
	UnknownSymbol      Reason = "UnknownSymbol"      // the kernel lacks what the module needs
	BuiltIn            Reason = "BuiltIn"            // it is part of the kernel, and cannot be replaced
	InUse              Reason = "InUse"              // it cannot be unloaded now
	NoModule           Reason = "NoModule"           // no file that fits, and building was not asked for
	NoHeaders          Reason = "NoHeaders"          // nothing to build against
	NoSource           Reason = "NoSource"           // nothing to build
	NoToolchain        Reason = "NoToolchain"        // nothing to build with
	BuildFailed        Reason = "BuildFailed"        // make says no
	ReadOnly           Reason = "ReadOnly"           // a directory that must be written cannot be
	LoadFailed         Reason = "LoadFailed"         // anything else that the kernel says
	Interrupted        Reason = "Interrupted"        // a delivery was ended before it was done, again and again
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{
		ModulesUnsupported, ModulesDisabled, NoPermission, Lockdown, KeyRejected, WrongKernel, WrongParameter, WrongABI, UnknownSymbol,
		BuiltIn, InUse, NoModule, NoHeaders, NoSource, NoToolchain, BuildFailed, ReadOnly, LoadFailed, Interrupted,
	}
}

// Exit codes of the commands; docs/kmod.md lists them.
const (
	ExitLoaded      = 0
	ExitError       = 1
	ExitWrongABI    = 3
	ExitLoadable    = 4
	ExitBuildable   = 5
	ExitMissing     = 6
	ExitUnsupported = 7
	ExitInUse       = 8
)

// Problem is an error that names its reason and its cure.
type Problem struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
	Cure    string `json:"cure,omitempty"` // what to do, as a sentence without its full stop
	err     error
}

func problem(reason Reason, cure, format string, args ...any) *Problem {
	return &Problem{Reason: reason, Cure: cure, Message: fmt.Sprintf(format, args...)}
}

// of wraps the error behind the problem.
func (p *Problem) of(err error) *Problem {
	p.err = err
	return p
}

// Error is message and cure.
func (p *Problem) Error() string {
	if p.Cure == "" {
		return p.Message
	}
	return p.Message + "; " + p.Cure
}

// Unwrap is the system's own error, if there was one.
func (p *Problem) Unwrap() error { return p.err }

// ExitCode is the exit code of a command that ends with this problem.
func (p *Problem) ExitCode() int {
	switch p.Reason {
	case ModulesUnsupported, ModulesDisabled:
		return ExitUnsupported
	case WrongABI:
		return ExitWrongABI
	case InUse:
		return ExitInUse
	}
	return ExitMissing
}
