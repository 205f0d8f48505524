// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// footprint is what can be found on the nodes and in the API server: lines, each with
// where it was found before it.
type footprint map[string]bool

// looks are commands on a node whose output is the same whenever nothing has changed.
var looks = map[string]string{
	"interface": "ip -o link | cut -d: -f2",
	"address":   "ip -o addr | awk '{print $2, $3, $4}'",
	"route":     "ip route show table all; ip -6 route show table all",
	"rule":      "ip rule; ip -6 rule",
	"nftables":  "nft list ruleset",
	"file":      "find /etc/cni /opt/cni /run/netio /var/lib/netio /var/cache/netio -printf '%p %m %s\\n' 2>&1 | grep -v 'No such file' || true",
	"sysctl":    "grep -rs '' /proc/sys/net | grep -vE '/(nf_conntrack_count|stable_secret):'",
	"module":    "grep ^netio /proc/modules || true",
	"process":   "cat /proc/[0-9]*/comm 2>/dev/null | grep -E '^netio-(agent|operator|cni)' || true",
	"pod":       "for n in /run/netns/*; do [ ! -e $n ] || nsenter --net=$n ip -o link | cut -d: -f2 | grep -v lo; done || true",
}

// takeFootprint looks everywhere.
func takeFootprint(t *testing.T) footprint {
	t.Helper()
	f := footprint{}
	for _, n := range under.Nodes {
		for what, look := range looks {
			args, err := under.NodeCommand(n.Name, "sh", "-c", look)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s of %s: %v\n%s", what, n.Name, err, out)
			}
			for line := range strings.Lines(string(out)) {
				f[n.Name+" "+what+": "+strings.TrimSpace(line)] = true
			}
		}
		node, err := client.CoreV1().Nodes().Get(t.Context(), n.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, taint := range node.Spec.Taints {
			f[n.Name+" taint: "+taint.Key] = true
		}
		for key := range maps.All(node.Labels) {
			f[n.Name+" label: "+key] = true
		}
	}
	f.addObjects(t)
	return f
}

// transient are objects that come and go by themselves.
var transient = []string{"events", "componentstatuses", "endpoints"}

// addObjects adds what the API server has of NetIO's: all names have it in them.
func (f footprint) addObjects(t *testing.T) {
	t.Helper()
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := discovery.ServerPreferredResources(client.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || slices.Contains(transient, r.Name) {
				continue
			}
			objects, err := meta.Resource(gv.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", r.Name, err)
			}
			for _, o := range objects.Items {
				where := "object: " + gv.Group + " " + r.Kind + " " + o.Namespace + "/" + o.Name
				if !strings.Contains(where, "netio") {
					continue
				}
				f[where] = true
				for _, finalizer := range o.Finalizers {
					f[where+", finalizer "+finalizer] = true
				}
			}
		}
	}
}

// changes lists what is new and what is gone, but for what is left out.
func (f footprint) changes(after footprint, leave func(line string) bool) []string {
	var list []string
	for line := range after {
		if !f[line] && !leave(line) {
			list = append(list, "+ "+line)
		}
	}
	for line := range f {
		if !after[line] && !leave(line) {
			list = append(list, "- "+line)
		}
	}
	slices.Sort(list)
	return list
}

// awaitFootprint waits until everything is as it was, as what is deleted takes its time.
func awaitFootprint(t *testing.T, before footprint, leave func(line string) bool) {
	t.Helper()
	await(t, "everything as it was", func(context.Context) error {
		if list := before.changes(takeFootprint(t), leave); len(list) > 0 {
			return fmt.Errorf("changed:\n%s", strings.Join(list, "\n"))
		}
		return nil
	})
}
