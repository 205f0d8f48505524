// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/node"
	"netio.dev/netio/test/kind/topology"
)

// What a cluster is asked for. The times are bars: they are reported, and a test
// fails where a machine with two processors is far from them.
const (
	scalePods     = 300
	scalePolicies = 1000
	scaleSamples  = 200
	scaleRemote   = 10_000
	scaleNodes    = 100 // that are simulated
	scaleLabel    = "scale.netio.dev/group"
	scaleGroups   = 31 // prime: each has pods on all nodes
)

// fast is a client that does not wait before it asks.
func fast(t *testing.T) (*kubernetes.Clientset, *rest.Config) {
	t.Helper()
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = 1000, 1000
	set, err := kubernetes.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return set, c
}

// forwarderOf connects to the forwarder of a node.
func forwarderOf(t *testing.T, nodeName string) dataplanev1.ObservationClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+nodePath(t, nodeName, node.ForwarderSocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return dataplanev1.NewObservationClient(conn)
}

// inUse is what a node's pods take: addresses, ports, endpoints.
func inUse(ctx context.Context, t *testing.T, nodeName string) (string, error) {
	info, err := agentOf(t, nodeName).Info(ctx, &agentv1.InfoRequest{})
	if err != nil {
		return "", err
	}
	ports, err := forwarderOf(t, nodeName).ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil {
		return "", err
	}
	links, err := onNode(topology.Node{Name: nodeName}, "sh", "-c", "ip -o link | wc -l; ip route | wc -l; nft list ruleset | wc -l")
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%d endpoints, %d ports, host %v", info.GetEndpoints(), len(ports.GetPorts()), strings.Fields(links))
	for _, p := range info.GetPools() {
		text += fmt.Sprintf(", %s: %d", p.GetCidr(), p.GetUsed())
	}
	return text, nil
}

// resident is the memory of a process, in KiB.
func resident(t *testing.T, socket string) int {
	t.Helper()
	pid, err := listener(socket)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmRSS in\n%s", status)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cniTimes is how many times containerd called NetIO to set a pod up, by all nodes,
// and how many of them took a second at most.
func cniTimes(t *testing.T) (all, fast int) {
	t.Helper()
	for _, n := range under.Nodes {
		network, err := under.NodeNetwork(n.Name)
		if err != nil {
			t.Fatal(err)
		}
		var conn net.Conn
		err = network.Do(func() (err error) {
			conn, err = net.Dial("tcp4", "127.0.0.1:1338")
			return err
		})
		_ = network.Close()
		if err != nil {
			t.Fatal(err)
		}
		text := metrics(t, conn)
		number := func(pattern string) int {
			found := regexp.MustCompile(pattern).FindSubmatch(text)
			if found == nil {
				return 0
			}
			n, err := strconv.ParseFloat(string(found[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		const name = `network_plugin_operations_duration_seconds_seconds`
		all += number(name + `_count\{operation_type="set_up_pod"[^}]*\} (\S+)`)
		fast += number(name + `_bucket\{operation_type="set_up_pod"[^}]*le="1"\} (\S+)`)
	}
	return all, fast
}

// metrics are what containerd tells of itself, over a connection.
func metrics(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	defer conn.Close()
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	answer, err := (&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}).Get("http://containerd/v1/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestScale puts the number of pods on the cluster that a small one has, while
// agents are killed, then policies, and takes all away.
func TestScale(t *testing.T) {
	if !*scale {
		t.Skip("takes the whole machine for minutes; make cluster-e2e-all")
	}
	set, fastConfig := fast(t)
	before := map[string]string{}
	for _, n := range under.Nodes {
		var err error
		if before[n.Name], err = inUse(t.Context(), t, n.Name); err != nil {
			t.Fatal(err)
		}
	}
	namespace := newNamespace(t)
	allBefore, fastBefore := cniTimes(t)

	began := time.Now()
	stop := killNow(t, 4*time.Second)
	createPods(t, set, namespace)
	awaitRunning(t, set, namespace)
	kills := stop()
	all, soon := cniTimes(t)
	t.Logf("%d pods on %d nodes ran after %s, with %d agents killed; of %d CNI ADDs %d took a second at most",
		scalePods, len(under.Nodes), time.Since(began).Round(time.Second), kills, all-allBefore, soon-fastBefore)

	t.Run("policy", func(t *testing.T) { measurePolicies(t, fastConfig, namespace) })
	for _, n := range under.Nodes {
		t.Logf("%s: agent %d KiB, forwarder %d KiB", n.Name, resident(t, nodePath(t, n.Name, node.AgentSocket)), resident(t, nodePath(t, n.Name, node.ForwarderSocket)))
	}

	t.Run("all goes", func(t *testing.T) {
		stop := killNow(t, 4*time.Second)
		began := time.Now()
		if err := set.CoreV1().Pods(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		await(t, "no pods", func(ctx context.Context) error {
			list, err := set.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err == nil && len(list.Items) > 0 {
				err = fmt.Errorf("%d are left", len(list.Items))
			}
			return err
		})
		kills := stop()
		t.Logf("gone after %s, with %d agents killed", time.Since(began).Round(time.Second), kills)
		for _, n := range under.Nodes {
			await(t, n.Name+" as before", func(ctx context.Context) error {
				now, err := inUse(ctx, t, n.Name)
				if err == nil && now != before[n.Name] {
					err = fmt.Errorf("%s, before %s", now, before[n.Name])
				}
				return err
			})
		}
	})
}

// killNow kills the agent of a random node now and then, until the function that it
// returns is called, which tells how many.
func killNow(t *testing.T, pause time.Duration) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var kills int
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			n := under.Nodes[rand.IntN(len(under.Nodes))].Name
			there, err := under.NodePath(n, node.AgentSocket)
			if err != nil {
				continue
			}
			if pid, err := listener(there); err == nil && unix.Kill(pid, unix.SIGKILL) == nil {
				kills++
			}
		}
	})
	stop := func() int {
		cancel()
		done.Wait()
		return kills
	}
	t.Cleanup(func() { stop() })
	return stop
}

func createPods(t *testing.T, set *kubernetes.Clientset, namespace string) {
	t.Helper()
	grace := int64(0)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range scalePods {
		group.Go(func() error {
			_, err := set.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("pod-", i), Labels: map[string]string{scaleLabel: fmt.Sprint(i % scaleGroups)}},
				Spec: corev1.PodSpec{
					NodeName:                      under.Nodes[i%len(under.Nodes)].Name,
					TerminationGracePeriodSeconds: &grace,
					Containers:                    []corev1.Container{{Name: "pause", Image: artifact.PauseImage, ImagePullPolicy: corev1.PullNever}},
				},
			}, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// scalePatience is how long many pods may take that share a machine of two
// processors with all of their nodes.
const scalePatience = 15 * time.Minute

func awaitRunning(t *testing.T, set *kubernetes.Clientset, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scalePatience)
	defer cancel()
	for {
		list, err := set.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		running := 0
		for _, p := range list.Items {
			if p.Status.Phase == corev1.PodRunning && len(p.Status.PodIPs) == 2 {
				running++
			}
		}
		if running == scalePods {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d of %d pods run", running, scalePods)
		case <-time.After(time.Second):
		}
	}
}

// measurePolicies makes policies, and then more, of which each is timed: from its
// creation until the forwarders of all nodes would drop what it forbids.
func measurePolicies(t *testing.T, fastConfig *rest.Config, namespace string) {
	objects, err := ctrlclient.New(fastConfig, ctrlclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(objects.Scheme()); err != nil {
		t.Fatal(err)
	}
	deny := func(name, group string, port int32) *v1alpha1.NetIOPolicy {
		everybody := v1alpha1.RuleProtocols{Ports: []v1alpha1.PortMatch{{Protocol: v1alpha1.ProtocolTCP, Port: &port}}}
		return &v1alpha1.NetIOPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: v1alpha1.NetIOPolicySpec{
				PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{scaleLabel: v1alpha1.LabelValue(group)}},
				Ingress: []v1alpha1.IngressRule{
					{Action: v1alpha1.ActionDeny, RuleProtocols: everybody},
					{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{PodSelector: &v1alpha1.LabelSelector{}}, {Entity: v1alpha1.EntityAll}}},
				},
			},
		}
	}
	var group errgroup.Group
	group.SetLimit(16)
	for i := range scalePolicies {
		group.Go(func() error {
			return objects.Create(t.Context(), deny(fmt.Sprint("policy-", i), fmt.Sprint(i%scaleGroups), int32(20_000+i)))
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	// A pod of the first group on each node.
	type target struct {
		forwarder dataplanev1.ObservationClient
		address   string
	}
	var targets []target
	for at, n := range under.Nodes {
		i := 0
		for i%len(under.Nodes) != at {
			i += scaleGroups
		}
		p, err := client.CoreV1().Pods(namespace).Get(t.Context(), fmt.Sprint("pod-", i), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, target{forwarderOf(t, n.Name), p.Status.PodIP})
	}
	// everywhere waits until a port is closed on all nodes.
	everywhere := func(port int32) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var group errgroup.Group
		for _, at := range targets {
			group.Go(func() error { return denied(ctx, at.forwarder, at.address, port) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int32(scalePolicies) {
		if i%scaleGroups == 0 {
			everywhere(20_000 + i)
		}
	}
	var times []time.Duration
	for i := range int32(scaleSamples) {
		began := time.Now()
		if err := objects.Create(t.Context(), deny(fmt.Sprint("sample-", i), "0", 30_000+i)); err != nil {
			t.Fatal(err)
		}
		everywhere(30_000 + i)
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	p50, p99 := times[len(times)/2], times[len(times)*99/100]
	t.Logf("%d policies for %d pods; one more is in force on all %d nodes after %s (median), %s (99 %%), %s (longest), its creation included",
		scalePolicies, scalePods, len(under.Nodes), p50.Round(time.Millisecond), p99.Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
	if p99 > 5*time.Second {
		t.Errorf("that is much too long")
	}
}

// denied waits until a forwarder drops connections to a port.
func denied(ctx context.Context, forwarder dataplanev1.ObservationClient, address string, port int32) error {
	for {
		e, err := forwarder.Explain(ctx, &dataplanev1.ExplainRequest{Tuple: &dataplanev1.Tuple{
			Src: topology.Fabric[0].String(), Dst: address, Protocol: 6, DstPort: uint32(port),
		}})
		if err != nil {
			return err
		}
		if e.GetVerdict() == "deny" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("port %d of %s: %w", port, address, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// TestScaleRemote: what pods of other nodes cost an agent.
func TestScaleRemote(t *testing.T) {
	if !*scale {
		t.Skip("takes the whole machine for minutes; make cluster-e2e-all")
	}
	set, _ := fast(t)
	namespace := newNamespace(t)
	at := func(n topology.Node) int { return resident(t, nodePath(t, n.Name, node.AgentSocket)) }
	before := map[string]int{}
	for _, n := range under.Nodes {
		before[n.Name] = at(n)
	}
	prefixes := simulateNodes(t, set)
	simulatePods(t, set, namespace, prefixes)
	last := simulatedAddress(prefixes, scaleRemote-1)
	admitOnly(t, namespace, scaleLabel, fmt.Sprint((scaleRemote-1)%scaleGroups))
	for _, n := range under.Nodes {
		startPod(t, namespace, "local-"+n.Name, n)
	}
	for _, n := range under.Nodes {
		p := awaitPod(t, namespace, "local-"+n.Name)
		forwarder := forwarderOf(t, n.Name)
		await(t, n.Name+" knows the last pod", func(ctx context.Context) error {
			e, err := forwarder.Explain(ctx, &dataplanev1.ExplainRequest{Tuple: &dataplanev1.Tuple{Src: last, Dst: p.addrs[0].String(), Protocol: 6, DstPort: 80}})
			if err == nil && e.GetVerdict() != "allow" {
				err = fmt.Errorf("%v", e)
			}
			return err
		})
		now := at(n)
		t.Logf("%s: agent %d KiB, before %d KiB: %.1f KiB for each of %d pods", n.Name, now, before[n.Name], float64(now-before[n.Name])/scaleRemote, scaleRemote)
	}
}

// admitOnly lets only pods with a label reach those of a namespace.
func admitOnly(t *testing.T, namespace, key, value string) {
	t.Helper()
	from := v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}
	if err := policies(t).Create(t.Context(), &v1alpha1.NetIOPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "admit-only"},
		Spec: v1alpha1.NetIOPolicySpec{Ingress: []v1alpha1.IngressRule{
			{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{Entity: v1alpha1.EntityHost}}},
			{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{PodSelector: &from}}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
}

// simulatedAddress is that of a simulated pod.
func simulatedAddress(prefixes []netip.Prefix, i int) string {
	b := prefixes[i%len(prefixes)].Addr().As4()
	b[3] = byte(3 + i/len(prefixes)) // after those of the node
	return netip.AddrFrom4(b).String()
}

// simulateNodes makes nodes that are not there, neighbours of the others, and
// returns their prefixes of IPv4.
func simulateNodes(t *testing.T, set *kubernetes.Clientset) []netip.Prefix {
	t.Helper()
	nodes := set.CoreV1().Nodes()
	prefixes := make([]netip.Prefix, scaleNodes)
	for i := range prefixes {
		name := fmt.Sprint("simulated-", i)
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, a := range []string{fmt.Sprint("10.89.0.", 100+i), fmt.Sprintf("fd00:89::1:%d", i)} {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		if _, err := nodes.Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := nodes.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		await(t, name+" has prefixes", func(ctx context.Context) error {
			n, err := nodes.Get(ctx, name, metav1.GetOptions{})
			if err == nil && len(n.Spec.PodCIDRs) == 0 {
				err = fmt.Errorf("none")
			}
			if err == nil {
				prefixes[i], err = netip.ParsePrefix(n.Spec.PodCIDRs[0])
			}
			return err
		})
	}
	return prefixes
}

// simulatePods makes pods that are not there.
func simulatePods(t *testing.T, set *kubernetes.Clientset, namespace string, prefixes []netip.Prefix) {
	t.Helper()
	t.Cleanup(func() {
		// In parts: the API server gives up on all of them at once.
		now := int64(0)
		for {
			list, err := set.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{Limit: 500})
			if err != nil || len(list.Items) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var group errgroup.Group
			group.SetLimit(32)
			for _, p := range list.Items {
				group.Go(func() error {
					return set.CoreV1().Pods(namespace).Delete(context.Background(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
				})
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var group errgroup.Group
	group.SetLimit(32)
	for i := range scaleRemote {
		group.Go(func() error {
			of := i % len(prefixes)
			p, err := set.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("remote-", i), Labels: map[string]string{
					scaleLabel: fmt.Sprint(i % scaleGroups), "app.kubernetes.io/name": fmt.Sprint("app-", i%200), "pod-template-hash": fmt.Sprintf("%x", i/7),
				}},
				Spec: corev1.PodSpec{
					NodeName:    fmt.Sprint("simulated-", of),
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers:  []corev1.Container{{Name: "none", Image: artifact.PauseImage}},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			p.Status.Phase = corev1.PodRunning
			p.Status.PodIP = simulatedAddress(prefixes, i)
			p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
			_, err = set.CoreV1().Pods(namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}
