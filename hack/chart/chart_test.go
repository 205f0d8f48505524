// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"

	"netio.dev/netio/api/v1alpha1"
)

const top = "../.."

// chart is its folder.
var chart = filepath.Join(top, "charts/netio")

// runHelm runs the helm that the test cluster has. It skips the test where that was not
// built.
func runHelm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	helm, err := filepath.Abs(filepath.Join(top, "build/cluster/bin/helm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(helm); err != nil {
		t.Skipf("the test cluster is not built: %v; make cluster-up builds it", err)
	}
	// What another program reads, the go command does not know of, and would take a
	// result for that of a chart which has changed since.
	err = filepath.WalkDir(chart, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), helm, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// template is `helm template` of the chart.
func template(t *testing.T, values ...string) (string, error) {
	t.Helper()
	args := []string{"template", "netio", chart, "--namespace", "netio-system", "--kube-version", "1.37.0", "--include-crds"}
	for _, v := range values {
		args = append(args, "--set-json", v)
	}
	return runHelm(t, args...)
}

func TestLint(t *testing.T) {
	if _, err := runHelm(t, "lint", "--strict", "--kube-version", "1.37.0", chart); err != nil {
		t.Error(err)
	}
}

// objects decodes what was rendered, and has no field that its kind has not. CRDs are
// left out, which are tested where they are from.
func objects(t *testing.T, text string) []runtime.Object {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	decode := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer().Decode
	var list []runtime.Object
	for docs := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text))); ; {
		doc := make([]byte, 1<<20)
		n, err := docs.Read(doc)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		doc = doc[:n]
		if bytes.Contains(doc, []byte("\nkind: CustomResourceDefinition\n")) || !bytes.Contains(doc, []byte("kind:")) {
			continue
		}
		o, _, err := decode(doc, nil, nil)
		if err != nil {
			t.Errorf("%v in:\n%s", err, doc)
			continue
		}
		list = append(list, o)
	}
}

// find is the one object of a type.
func find[T runtime.Object](t *testing.T, list []runtime.Object) T {
	t.Helper()
	var found []T
	for _, o := range list {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		var none T
		t.Fatalf("%d objects of type %T", len(found), none)
	}
	return found[0]
}

func TestDefaults(t *testing.T) {
	text, err := template(t)
	if err != nil {
		t.Fatal(err)
	}
	list := objects(t, text)
	d := find[*appsv1.Deployment](t, list)
	pod := d.Spec.Template.Spec
	s := pod.Containers[0].SecurityContext
	if !pod.HostNetwork || !*pod.SecurityContext.RunAsNonRoot || *s.AllowPrivilegeEscalation || len(s.Capabilities.Add) != 0 {
		t.Errorf("the operator runs as %+v, %+v", pod.SecurityContext, s)
	}
	if n := len(pod.Containers[0].Env); n != 1 {
		t.Errorf("%d variables, of which one is its namespace", n)
	}
	c := find[*v1alpha1.NetIOCluster](t, list)
	if c.Name != v1alpha1.ClusterName || !strings.HasSuffix(c.Spec.Image.Name, ":0.1.0") || c.Spec.APIServer != nil {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"netioclusters.netio.dev", "netionodes.netio.dev", "netiopolicies.netio.dev", "netioippools.netio.dev", "netioclusterpolicies.netio.dev"} {
		if !strings.Contains(text, "name: "+want) {
			t.Errorf("no CRD %s", want)
		}
	}
	roles := map[string]bool{}
	for _, o := range list {
		if r, ok := o.(*rbacv1.ClusterRole); ok {
			roles[r.Name] = true
		}
	}
	if len(roles) != 5 {
		t.Errorf("roles %v", roles)
	}
}

// testPod is the one of helm test; all that it takes is there for the test alone.
func testPod(t *testing.T, list []runtime.Object) *corev1.Pod {
	t.Helper()
	p := find[*corev1.Pod](t, list)
	for _, o := range list {
		m, err := meta.Accessor(o)
		if err != nil {
			t.Fatal(err)
		}
		if m.GetName() != p.Name {
			continue
		}
		deletion := "before-hook-creation,hook-succeeded,hook-failed"
		if o == runtime.Object(p) {
			deletion = "before-hook-creation" // its log is wanted
		}
		if a := m.GetAnnotations(); a["helm.sh/hook"] != "test" || a["helm.sh/hook-delete-policy"] != deletion {
			t.Errorf("%T %s: %v", o, m.GetName(), a)
		}
	}
	return p
}

func TestHelmTest(t *testing.T) {
	text, err := template(t)
	if err != nil {
		t.Fatal(err)
	}
	list := objects(t, text)
	p := testPod(t, list)
	// What is of the operator's pods, a budget or a Service, must not be of this one.
	if operator := find[*appsv1.Deployment](t, list).Spec.Selector.MatchLabels; labels.SelectorFromSet(operator).Matches(labels.Set(p.Labels)) {
		t.Errorf("labels %v are the operator's", p.Labels)
	}
	c := p.Spec.Containers[0]
	if !p.Spec.HostNetwork || !*p.Spec.SecurityContext.RunAsNonRoot || *c.SecurityContext.AllowPrivilegeEscalation || len(c.SecurityContext.Capabilities.Add) != 0 ||
		strings.Join(c.Command, " ") != "netioctl connectivity test --namespace=netio-system" || len(c.Env) != 0 {
		t.Errorf("%+v", p.Spec)
	}
	// In the cluster it may look, and write in the release's namespace alone.
	for _, o := range list {
		r, ok := o.(*rbacv1.ClusterRole)
		if !ok || r.Name != p.Spec.ServiceAccountName {
			continue
		}
		for _, rule := range r.Rules {
			for _, verb := range rule.Verbs {
				if verb != "get" && verb != "list" {
					t.Errorf("in the cluster it may %s %v", verb, rule.Resources)
				}
			}
		}
	}

	text, err = template(t, `image={"repository":"reg.example.com/netio","tag":"v1","pullSecrets":["a"]}`, `apiServer={"host":"10.0.0.1"}`, `test={"args":["--world=192.0.2.1:443"]}`)
	if err != nil {
		t.Fatal(err)
	}
	p = testPod(t, objects(t, text))
	c = p.Spec.Containers[0]
	if c.Image != "reg.example.com/netio/netio-agent:v1" || len(p.Spec.ImagePullSecrets) != 1 || len(c.Env) != 2 || c.Command[len(c.Command)-1] != "--world=192.0.2.1:443" {
		t.Errorf("%+v", p.Spec)
	}
}

func TestValues(t *testing.T) {
	text, err := template(t,
		`image={"repository":"reg.example.com/netio","tag":"v1.2.3","pullSecrets":["a","b"]}`, `apiServer={"host":"10.0.0.1","port":443}`,
		`network={"kubeProxyReplacement":true,"tunnel":{"vni":7},"masqueradeExcept":["10.0.0.0/8"],"agents":{"agent":{"limits":{"memory":"200Mi"}}}}`,
		`operator={"replicas":2,"tolerations":[],"nodeSelector":{"a":"b"}}`)
	if err != nil {
		t.Fatal(err)
	}
	list := objects(t, text)
	find[*policyv1.PodDisruptionBudget](t, list)
	d := find[*appsv1.Deployment](t, list)
	pod := d.Spec.Template.Spec
	if *d.Spec.Replicas != 2 || len(pod.Containers[0].Env) != 3 || len(pod.ImagePullSecrets) != 2 || pod.Affinity == nil || pod.NodeSelector["a"] != "b" ||
		pod.Containers[0].Image != "reg.example.com/netio/netio-operator:v1.2.3" {
		t.Errorf("%+v", d)
	}
	spec := find[*v1alpha1.NetIOCluster](t, list).Spec
	if spec.Image.Name != "reg.example.com/netio/netio-agent:v1.2.3" || len(spec.Image.PullSecrets) != 2 || *spec.APIServer != (v1alpha1.APIServer{Host: "10.0.0.1", Port: 443}) ||
		spec.Tunnel.VNI != 7 || !spec.KubeProxyReplacement || len(spec.MasqueradeExcept) != 1 || spec.Agents.Agent.Limits.Memory().String() != "200Mi" {
		t.Errorf("%+v", spec)
	}
}

func TestWrongValues(t *testing.T) {
	for value, want := range map[string]string{
		`netwrok={}`:                            "'netwrok' not allowed",
		`network={"tunel":{}}`:                  "'tunel' not allowed",
		`network={"mtu":"big"}`:                 "/network/mtu",
		`network={"mtu":100}`:                   "/network/mtu",
		`network={"image":{"name":"x:y"}}`:      "'image' not allowed",
		`network={"kubeProxyReplacement":true}`: "takes apiServer.host",
		`operator={"replicas":-1}`:              "/operator/replicas",
		`uninstall={"patience":"soon"}`:         "/uninstall/patience",
		`uninstall={"node":true}`:               "'node' not allowed",
		`image={"tag":"a b"}`:                   "/image/tag",
		`apiServer={"host":"https://10.0.0.1"}`: "/apiServer/host",
		`test={"args":["n1"]}`:                  "/test/args",
	} {
		if _, err := template(t, value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q is not in: %v", value, want, err)
		}
	}
}

// TestUninstall: what helm uninstall makes is there with it only, goes by what was
// installed, and is left out for who wants that.
func TestUninstall(t *testing.T) {
	text, err := template(t, `image={"repository":"reg","tag":"v1"}`, `network={"cni":{"binDir":"/usr/lib/cni"}}`, `uninstall={"patience":"90s"}`)
	if err != nil {
		t.Fatal(err)
	}
	hooks := 0
	for _, o := range objects(t, text) {
		meta := o.(metav1.Object)
		if meta.GetAnnotations()["helm.sh/hook"] == "pre-delete" != (meta.GetName() == "netio-uninstall") {
			t.Errorf("%T %s: annotations %v", o, meta.GetName(), meta.GetAnnotations())
		}
		switch o := o.(type) {
		case *batchv1.Job:
			c := o.Spec.Template.Spec.Containers[0]
			if c.Image != "reg/netio-operator:v1" || !slices.Contains(c.Command, "--patience=90s") {
				t.Errorf("%+v", c)
			}
			if l := o.Spec.Template.Labels["app.kubernetes.io/name"]; l != "netio-uninstall" {
				t.Errorf("it waits for the pods of the operator to end, and has the label %s", l)
			}
			hooks++
		case *corev1.ConfigMap:
			kept := &v1alpha1.NetIOCluster{}
			if err := sigsyaml.UnmarshalStrict([]byte(o.Data["cluster.yaml"]), kept); err != nil || kept.Spec.Image.Name != "reg/netio-agent:v1" || kept.Spec.CNI.BinDir != "/usr/lib/cni" {
				t.Errorf("%v, %+v", err, kept)
			}
			hooks++
		}
	}
	if hooks != 2 {
		t.Errorf("%d of Job and ConfigMap", hooks)
	}
	if text, err = template(t, `uninstall={"nodes":false}`); err != nil || strings.Contains(text, "pre-delete") {
		t.Errorf("%v in:\n%s", err, text)
	}
}

// TestMatrix: whatever values are put together, what comes out has no field that its
// kind has not.
func TestMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("many calls of helm")
	}
	for _, api := range []string{`apiServer={}`, `apiServer={"host":"fd00::1"}`} {
		for _, image := range []string{`image={}`, `image={"pullSecrets":["a"],"pullPolicy":"Always"}`} {
			for _, operator := range []string{`operator={}`, `operator={"replicas":3,"tolerations":[],"nodeSelector":null,"resources":null}`} {
				for _, network := range []string{`network={}`, `network={"tunnel":{},"device":"Auto","metrics":{},"agents":{"tolerations":[]}}`} {
					text, err := template(t, api, image, operator, network)
					if err != nil {
						t.Fatal(err)
					}
					if n := len(objects(t, text)); n < 10 {
						t.Errorf("%s %s %s %s: %d objects", api, image, operator, network, n)
					}
				}
			}
		}
	}
}
