// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/kmod"
)

// Devices as a forwarder tells them.
const (
	deviceKernel = "kernel"
	deviceSoft   = "soft"
)

// Reasons of the condition KernelModule beside those of package kmod.
const (
	reasonLoaded   = "Loaded"
	reasonNotUsed  = "LoadedNotUsed"
	reasonUnderWay = "UnderWay"
	reasonUnknown  = "Unknown"
)

// tryAgain is how a delivery is repeated.
const tryAgain = "when that is done, delete the node's netio-agent pod: its init container tries again"

// moduleOf is what came of the kernel module's delivery, nil if there was none.
func moduleOf(r node.Report) *v1alpha1.NodeKernelModule {
	o := r.KernelModule
	if o == nil {
		return nil
	}
	m := &v1alpha1.NodeKernelModule{State: string(o.State), Version: o.Version, ABI: o.ABI, Origin: o.Origin, Kernel: o.Kernel}
	for _, n := range o.Notes {
		m.Notes = append(m.Notes, cutTo(n, maxPolicyMessage))
	}
	return m
}

// moduleCondition says whether the module is there, and if not what would help; nil where
// it is not delivered.
func moduleCondition(r node.Report) *metav1.Condition {
	c := &metav1.Condition{Type: v1alpha1.NodeKernelModuleLoaded}
	o := r.KernelModule
	switch {
	case r.KernelModuleUnknown != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, reasonUnknown, cut(r.KernelModuleUnknown.Error())
	case o == nil:
		return nil
	case o.Problem != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, string(o.Problem.Reason), cut(missing(o, r.Device))
	case o.State == kmod.StateBegun:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, reasonUnderWay, "it is being delivered"
	case r.Device == deviceSoft:
		c.Status, c.Reason = metav1.ConditionTrue, reasonNotUsed
		c.Message = "it is loaded, and the forwarder keeps the soft device, of which the pods' interfaces are; drain the node and delete its netio-agent pod for the kernel device"
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, reasonLoaded, "it is loaded, and its ABI is "+o.ABI
	}
	return c
}

// missing says why the module is not there, what the node has instead, and what to do.
func missing(o *kmod.Outcome, device string) string {
	text := o.Problem.Message
	switch {
	case o.Required && device != deviceKernel:
		text += "; pods have no network on this node, as device is Kernel"
	case device == deviceSoft:
		text += "; the soft device is used"
	case device == deviceKernel:
		text += "; pods keep their network by the module that is loaded, and this version's agent does not start"
	}
	if o.Problem.Cure != "" {
		text += ". To have it: " + o.Problem.Cure
	}
	switch o.Problem.Reason {
	case kmod.ModulesUnsupported, kmod.ModulesDisabled, kmod.BuiltIn, kmod.InUse: // that takes a boot
		return text
	}
	return text + "; " + tryAgain
}
