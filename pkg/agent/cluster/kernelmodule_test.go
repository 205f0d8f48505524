// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/kmod"
)

// TestModuleCondition: what a node says of the kernel module, by what came of its delivery
// and by the device in use.
func TestModuleCondition(t *testing.T) {
	noHeaders := &kmod.Problem{Reason: kmod.NoHeaders, Message: "there are no headers", Cure: "install them"}
	inUse := &kmod.Problem{Reason: kmod.InUse, Message: "it is in use", Cure: "drain the node and delete its netio-agent pods"}
	for _, tt := range []struct {
		name   string
		report node.Report
		status metav1.ConditionStatus // "": no condition
		reason string
		says   []string
	}{
		{name: "not delivered"},
		{"loaded", node.Report{Device: "kernel", KernelModule: &kmod.Outcome{State: kmod.StateLoaded, ABI: "1.1"}}, metav1.ConditionTrue, "Loaded", []string{"ABI is 1.1"}},
		{"the forwarder is not up yet", node.Report{KernelModule: &kmod.Outcome{State: kmod.StateLoaded, ABI: "1.1"}}, metav1.ConditionTrue, "Loaded", nil},
		{"loaded, too late for the pods", node.Report{Device: "soft", KernelModule: &kmod.Outcome{State: kmod.StateLoaded}}, metav1.ConditionTrue, "LoadedNotUsed", []string{"drain the node"}},
		{
			"fallen back", node.Report{Device: "soft", KernelModule: &kmod.Outcome{State: kmod.StateMissing, Problem: noHeaders}}, metav1.ConditionFalse, "NoHeaders",
			[]string{"there are no headers; the soft device is used. To have it: install them; when that is done, delete the node's netio-agent pod"},
		},
		{
			"required", node.Report{KernelModule: &kmod.Outcome{State: kmod.StateMissing, Problem: noHeaders, Required: true}}, metav1.ConditionFalse, "NoHeaders",
			[]string{"pods have no network on this node, as device is Kernel", "install them"},
		},
		{
			"another ABI in use", node.Report{Device: "kernel", KernelModule: &kmod.Outcome{State: kmod.StateOtherABI, Problem: inUse, Required: true}}, metav1.ConditionFalse, "InUse",
			[]string{"pods keep their network", "drain the node"},
		},
		{"under way", node.Report{KernelModule: &kmod.Outcome{State: kmod.StateBegun}}, metav1.ConditionUnknown, "UnderWay", nil},
		{"nothing noted", node.Report{KernelModuleUnknown: errors.New("see the init container")}, metav1.ConditionUnknown, "Unknown", []string{"see the init container"}},
	} {
		c := moduleCondition(tt.report)
		if c == nil {
			if tt.status != "" {
				t.Errorf("%s: no condition", tt.name)
			}
			continue
		}
		if c.Status != tt.status || c.Reason != tt.reason || c.Message == "" {
			t.Errorf("%s: %+v, expected %s, %s", tt.name, c, tt.status, tt.reason)
		}
		for _, want := range tt.says {
			if !strings.Contains(c.Message, want) {
				t.Errorf("%s: %q is not in %q", tt.name, want, c.Message)
			}
		}
	}
}
