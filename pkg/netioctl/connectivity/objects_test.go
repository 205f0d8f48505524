// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/netioctl/remote"
)

// noObserver is of a test that does not come to forwarders.
type noObserver struct{ Observer }

// TestObjectsAreAccepted: a real API server takes what a test makes, in a namespace of
// its own and, with other names, in one that is there.
func TestObjectsAreAccepted(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	k := kubetest.Client(t, config)
	for _, own := range []bool{true, false} {
		tt := &test{run: "x7k2p", namespace: "netio-connectivity-x7k2p", own: own, layout: *sample(1)}
		if own {
			if err := k.Create(t.Context(), tt.newNamespace()); err != nil {
				t.Fatal(err)
			}
		} else {
			tt.prefix, tt.pullSecrets = "connectivity-x7k2p-", []string{"registry"}
		}
		tt.layout.headless = tt.prefix + "all"
		m := &tt.layout.members[0]
		m.image, m.pullPolicy = "netio.test/agent:1", corev1.PullNever
		objects := []client.Object{tt.newService(tt.prefix+"on-1", 1), tt.newHeadless(), tt.newNetworkPolicy(tt.prefix + "deny"), tt.newNetIOPolicy(tt.prefix + "deny")}
		for _, p := range m.parties() {
			objects = append(objects, tt.newPod(m, 1, p))
		}
		for _, o := range objects {
			if err := k.Create(t.Context(), o, client.DryRunAll); err != nil {
				t.Errorf("%T %s: %v", o, o.GetName(), err)
			}
		}
	}
}

// TestRights: who lacks rights is told all of them, and has made nothing; the rights that
// the chart's account has are enough.
func TestRights(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	k := kubetest.Client(t, config)
	as := func(user string) *remote.Cluster {
		c := rest.CopyConfig(config)
		c.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
		cluster, err := remote.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return cluster
	}
	_, err := Run(t.Context(), as("nobody"), noObserver{}, Options{Say: t.Logf})
	if err == nil {
		t.Fatal("no error without rights")
	}
	for _, want := range []string{"create namespaces", "create pods/exec", "list nodes", "delete networkpolicies.networking.k8s.io", "create netiopolicies.netio.dev"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	var role rbacv1.Role
	var clusterRole rbacv1.ClusterRole
	for _, r := range rights(false) {
		rule := rbacv1.PolicyRule{APIGroups: []string{r.group}, Resources: []string{strings.TrimSuffix(r.resource+"/"+r.subresource, "/")}, Verbs: r.verbs}
		if r.everywhere {
			clusterRole.Rules = append(clusterRole.Rules, rule)
		} else {
			role.Rules = append(role.Rules, rule)
		}
	}
	role.Name, role.Namespace, clusterRole.Name = "tester", "default", "tester"
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "tester"}}
	for _, o := range []client.Object{
		&role, &clusterRole,
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "tester", Namespace: "default"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "tester"}, Subjects: subjects},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "tester"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "tester"}, Subjects: subjects},
	} {
		if err := k.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	// There are no nodes, which is what is wrong next.
	if _, err := Run(t.Context(), as("tester"), noObserver{}, Options{Namespace: "default", Say: t.Logf}); err == nil || !strings.Contains(err.Error(), "no agent of NetIO") {
		t.Errorf("with all rights: %v", err)
	}
	var namespaces corev1.NamespaceList
	if err := k.List(t.Context(), &namespaces); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(namespaces.Items, func(ns corev1.Namespace) bool { return ns.Labels[nameLabel] == appName }); i >= 0 {
		t.Errorf("namespace %s was made", namespaces.Items[i].Name)
	}
}
