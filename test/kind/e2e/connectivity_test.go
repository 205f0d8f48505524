// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/netioctl/connectivity"
	"netio.dev/netio/pkg/netioctl/connectivity/probe"
	"netio.dev/netio/test/kind/cluster"
)

// ofTests selects what connectivity tests make.
const ofTests = "app.kubernetes.io/name=netio-connectivity-test"

// connectivityTest runs it, and returns its report and what it says beside. An error is
// its exit code's.
func connectivityTest(t *testing.T, args ...string) (*connectivity.Report, string, error) {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(source, "bin/netioctl"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--kubeconfig", under.Kubeconfig(), "connectivity", "test", "-o", "json"}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	runErr := cmd.Run()
	if out.Len() == 0 {
		return nil, said.String(), runErr
	}
	r := &connectivity.Report{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	return r, said.String(), runErr
}

// failures are the broken links of a report, in words.
func failures(r *connectivity.Report) []string {
	var list []string
	for i := range r.Links {
		if l := &r.Links[i]; l.State == connectivity.Failed {
			list = append(list, fmt.Sprintf("%s: %s: %s (trace: %s)", l.Kind, l.Link.String(), l.Why, l.Trace))
		}
	}
	return list
}

// nothingLeft: tests have taken away what they made.
func nothingLeft(t *testing.T) {
	t.Helper()
	namespaces, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{LabelSelector: ofTests})
	if err != nil {
		t.Fatal(err)
	}
	for i := range namespaces.Items {
		t.Errorf("namespace %s is left", namespaces.Items[i].Name)
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{LabelSelector: ofTests})
	if err != nil {
		t.Fatal(err)
	}
	services, err := client.CoreV1().Services(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{LabelSelector: ofTests})
	if err != nil {
		t.Fatal(err)
	}
	networkPolicies, err := client.NetworkingV1().NetworkPolicies(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{LabelSelector: ofTests})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items)+len(services.Items)+len(networkPolicies.Items) > 0 {
		t.Errorf("%d pods, %d services, %d policies are left", len(pods.Items), len(services.Items), len(networkPolicies.Items))
	}
}

// TestConnectivity: netioctl connectivity test finds nothing broken in a cluster where
// nothing is, and has tested all there is.
func TestConnectivity(t *testing.T) {
	r, said, err := connectivityTest(t)
	if err != nil || r == nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, f := range failures(r) {
		t.Error(f)
	}
	if len(r.Conclusions) > 0 || r.Ended != "" || len(r.Nodes) != len(under.Nodes) {
		t.Errorf("%+v", r)
	}
	for _, s := range r.Reasons() {
		t.Errorf("skipped: %s", s)
	}
	want := []connectivity.Kind{
		connectivity.AgentsRun, connectivity.PodsStart, connectivity.SameNode, connectivity.PodToNode, connectivity.NodeToPod, connectivity.PodToService,
		connectivity.Hairpin, connectivity.NodeToService, connectivity.Headless, connectivity.PodToNodePort, connectivity.NodeToNodePort,
		connectivity.ToAPIServer, connectivity.NetworkPolicy, connectivity.NetIOPolicyDeny,
	}
	if len(under.Nodes) > 1 {
		want = append(want, connectivity.OtherNode, connectivity.NodeToNode, connectivity.ServiceName)
	}
	for _, row := range r.Rows() {
		want = slices.DeleteFunc(want, func(k connectivity.Kind) bool { return k == row.Kind && row.OK > 0 })
	}
	if len(want) > 0 {
		t.Errorf("not tested: %v", want)
	}
	for i := range r.Links {
		if l := &r.Links[i]; (l.Kind == connectivity.NetworkPolicy || l.Kind == connectivity.NetIOPolicyDeny) && !strings.Contains(l.Why, "policy-") {
			t.Errorf("%s: it was not seen why: %q", l.Link.String(), l.Why)
		}
	}
	nothingLeft(t)
}

// TestConnectivityNamesTheBrokenLink: what the network between two nodes loses is found,
// and nothing else.
//
//	first node ──x── last node: packets of the one's pods to the other's, by IPv6
func TestConnectivityNamesTheBrokenLink(t *testing.T) {
	first, last := under.Nodes[0].Name, under.Nodes[len(under.Nodes)-1].Name
	record, err := under.Dir.Load()
	if err != nil {
		t.Fatal(err)
	}
	if first == last || record.Tunnel {
		t.Skip("takes two nodes, and pods' addresses between them")
	}
	table := fmt.Sprintf("table bridge netio-broken {\nchain forward {\ntype filter hook forward priority 0\nip6 saddr %s ip6 daddr %s drop\n}\n}\n", prefixOf(t, first), prefixOf(t, last))
	if out, err := exec.CommandContext(t.Context(), "nft", table).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("nft", "delete table bridge netio-broken").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	r, said, err := connectivityTest(t, "--settle", "3s")
	var exit *exec.ExitError
	if r == nil || !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, said)
	}
	named := map[string]bool{}
	for i := range r.Links {
		l := &r.Links[i]
		if l.State != connectivity.Failed {
			continue
		}
		ends := []string{l.From.Node, l.To.Node, l.To.Via}
		if l.To.What == connectivity.Name {
			continue // the cluster's DNS may be on the other side
		}
		if l.Family != 6 || !slices.Contains(ends, first) || !slices.Contains(ends, last) {
			t.Errorf("is not broken: %s: %s", l.Link.String(), l.Why)
		}
		if l.Kind == connectivity.OtherNode {
			named[l.From.Node+" "+l.To.Node+" "+string(l.By)] = true
			if l.Dropped || !strings.Contains(l.Trace, "delivered") {
				t.Errorf("%s: NetIO says %q", l.Link.String(), l.Trace)
			}
		}
	}
	for _, by := range []probe.How{probe.TCP, probe.UDP, probe.Bulk, probe.Echo} {
		for _, way := range []string{first + " " + last, last + " " + first} {
			if !named[way+" "+string(by)] {
				t.Errorf("not named: %s by %s", way, by)
			}
		}
	}
	if want := fmt.Sprintf("IPv6 between %s and %s: the nodes reach each other, and NetIO would deliver", first, last); len(r.Conclusions) != 1 || !strings.HasPrefix(r.Conclusions[0], want) {
		t.Errorf("%q, want %s", r.Conclusions, want)
	}
	nothingLeft(t)
}

// prefixOf is the prefix of a node's pods, IPv6.
func prefixOf(t *testing.T, node string) netip.Prefix {
	t.Helper()
	n, err := client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cidr := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(cidr); err == nil && p.Addr().Is6() {
			return p
		}
	}
	t.Fatalf("node %s has the prefixes %v", node, n.Spec.PodCIDRs)
	return netip.Prefix{}
}

// TestConnectivityNamesThePolicy: what a policy forbids is broken, and the policy is named.
func TestConnectivityNamesThePolicy(t *testing.T) {
	objects := policies(t)
	policy := &v1alpha1.NetIOClusterPolicy{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-no-udp-"},
		Spec: v1alpha1.NetIOClusterPolicySpec{
			Tier:        v1alpha1.TierAdmin,
			PodSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app.kubernetes.io/name": "netio-connectivity-test"}},
			Ingress:     []v1alpha1.ClusterIngressRule{{Action: v1alpha1.ActionDeny, RuleProtocols: v1alpha1.RuleProtocols{Ports: []v1alpha1.PortMatch{{Protocol: v1alpha1.ProtocolUDP}}}}},
		},
	}
	if err := objects.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := objects.Delete(context.Background(), policy); err != nil {
			t.Error(err)
		}
	})
	r, said, err := connectivityTest(t, "--nodes", under.Nodes[0].Name, "--settle", "3s")
	if r == nil || err == nil {
		t.Fatalf("%v: %s", err, said)
	}
	direct := 0
	for i := range r.Links {
		l := &r.Links[i]
		if l.State == connectivity.Failed && l.By != probe.UDP {
			t.Errorf("is not broken: %s: %s", l.Link.String(), l.Why)
		}
		if l.State == connectivity.Failed && l.Kind == connectivity.SameNode {
			direct++
			if !l.Dropped || !strings.Contains(l.Trace, policy.Name) || !strings.Contains(l.Trace, "policy-ingress") {
				t.Errorf("%s: NetIO says %q", l.Link.String(), l.Trace)
			}
		}
	}
	if direct != 4 {
		t.Errorf("%d links between pods are broken, not 4", direct)
	}
	nothingLeft(t)
}

// TestConnectivitySaysWhatDoesNotStart: a pod that ends at once is what is wrong, and no
// link is said to be.
func TestConnectivitySaysWhatDoesNotStart(t *testing.T) {
	const kubelets = "10250"
	r, said, err := connectivityTest(t, "--nodes", under.Nodes[0].Name, "--host-port", kubelets)
	if r == nil || err == nil {
		t.Fatalf("%v: %s", err, said)
	}
	list := failures(r)
	if len(list) != 1 || !strings.Contains(list[0], "address already in use") || !strings.Contains(list[0], "--host-port") {
		t.Errorf("%q", list)
	}
	if !slices.ContainsFunc(r.Reasons(), func(s string) bool { return strings.HasPrefix(s, "node to pod (") }) {
		t.Errorf("skipped: %q", r.Reasons())
	}
	nothingLeft(t)
}

// TestConnectivityInterrupted: it cleans up when it is interrupted.
func TestConnectivityInterrupted(t *testing.T) {
	program := exec.CommandContext(t.Context(), filepath.Join(source, "bin/netioctl"), "--kubeconfig", under.Kubeconfig(), "connectivity", "test")
	var said bytes.Buffer
	program.Stderr = &said
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "pods of the test", func(ctx context.Context) error {
		pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: ofTests})
		if err == nil && len(pods.Items) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	if err := program.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := program.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasSuffix(said.String(), "netioctl: interrupted\n") {
		t.Errorf("%v: %s", err, said.String())
	}
	nothingLeft(t)
}

// TestConnectivityWrongInput: it says what is wrong before it makes anything.
func TestConnectivityWrongInput(t *testing.T) {
	made, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-going-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	going := made.Name
	keeps, err := client.CoreV1().ConfigMaps(going).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "keeps", Finalizers: []string{"netio.test/keeps"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		keeps.Finalizers = nil
		if _, err := client.CoreV1().ConfigMaps(going).Update(context.Background(), keeps, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	})
	if err := client.CoreV1().Namespaces().Delete(t.Context(), going, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	nobody := filepath.Join(t.TempDir(), "nobody")
	kubeconfig, err := clientcmd.LoadFromFile(under.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range kubeconfig.AuthInfos {
		user.Impersonate = "nobody"
	}
	if err := clientcmd.WriteToFile(*kubeconfig, nobody); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args, want string
	}{
		"no such node":      {"--nodes nowhere", "the cluster has no node nowhere; it has " + under.Nodes[0].Name},
		"no such namespace": {"--namespace nowhere", "there is no namespace nowhere"},
		"going namespace":   {"--namespace " + going, "is being deleted"},
		"no rights":         {"--kubeconfig " + nobody, "create pods/exec"},
	} {
		t.Run(name, func(t *testing.T) {
			r, said, err := connectivityTest(t, strings.Fields(c.args)...)
			if err == nil || r != nil || !strings.Contains(said, c.want) {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
	nothingLeft(t)
}

// TestConnectivityByHelm: helm test does it, with no more rights than it takes, and leaves
// nothing but its log.
func TestConnectivityByHelm(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	command := under.HelmCommand("test", cluster.Release, "--logs", "--timeout", "3m")
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "All is well") || strings.Contains(string(out), "could not be seen") {
		t.Fatalf("%v:\n%s", err, out)
	}
	if _, err := client.CoreV1().ServiceAccounts(cluster.Namespace).Get(t.Context(), "netio-test", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its service account is left: %v", err)
	}
	if _, err := client.RbacV1().ClusterRoles().Get(t.Context(), "netio-test", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its role is left: %v", err)
	}
	nothingLeft(t)
}
