// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"netio.dev/netio/pkg/kmod"
)

// mayTakeOver tells whether the forwarder that belongs to this agent forwards.
func (a *agent) mayTakeOver() func() bool {
	if a.After == "" {
		return nil
	}
	wait := sync.OnceFunc(func() {
		slog.Info("another agent runs; waiting for the forwarder of this pod before it is asked to give way", "file", a.After)
	})
	return func() bool {
		if _, err := os.Stat(a.After); err != nil {
			wait()
			return false
		}
		return true
	}
}

// kernelModule is what came of the module's delivery, nil if there was none, and why that
// is not known, if it is not. What pods lack by it, and what keeps a new version from this
// node, is a problem; that the soft device is in use is none.
func (a *agent) kernelModule() (*kmod.Outcome, error) {
	if a.KernelModule == "" {
		return nil, nil
	}
	o, err := kmod.ReadOutcome(a.KernelModule)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.New("nothing has come of the kernel module's delivery yet: see the init container kernel-module of this pod")
	}
	if err != nil {
		return nil, err
	}
	var wrong error
	switch p := o.Problem; {
	case p == nil:
	case o.Required:
		wrong = fmt.Errorf("device is Kernel, and the kernel module is not loaded: %w", p)
	case o.State == kmod.StateOtherABI && p.Reason == kmod.InUse:
		wrong = p
	}
	a.problems.Report("kernel module", wrong)
	return o, nil
}
