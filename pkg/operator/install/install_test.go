// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/operatortest"
)

const namespace = operatortest.Namespace

func newCluster() *v1alpha1.NetIOCluster {
	return &v1alpha1.NetIOCluster{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterName}, Spec: v1alpha1.NetIOClusterSpec{Image: v1alpha1.Image{Name: "netio-agent:v1"}}}
}

// TestController: the agents are made and kept as the NetIOCluster says, what others
// add is left alone, and the status tells what became of it.
func TestController(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	c := kubetest.Client(t, config)
	ctx := t.Context()
	defer operatortest.Start(t, config, operator.Controller{Name: Name, Register: Register(namespace)}, Watched(namespace))()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	cluster := newCluster()
	must(c.Create(ctx, cluster))
	is := func(kind, status, reason string) func(*v1alpha1.NetIOCluster) bool {
		return func(o *v1alpha1.NetIOCluster) bool {
			got := apimeta.FindStatusCondition(o.Status.Conditions, kind)
			return got != nil && string(got.Status) == status && got.Reason == reason && got.ObservedGeneration == o.Generation
		}
	}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: AgentName}
	agents, file := &appsv1.DaemonSet{ObjectMeta: meta}, &corev1.ConfigMap{ObjectMeta: meta}
	kubetest.Await(t, c, "the agents are made", agents, func(*appsv1.DaemonSet) bool { return true })
	kubetest.Await(t, c, "nobody is ready", cluster, is(v1alpha1.ClusterAvailable, "False", reasonNoNodes))
	for _, o := range []client.Object{file, &corev1.ServiceAccount{ObjectMeta: meta}, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: AgentName}}, agents} {
		must(c.Get(ctx, client.ObjectKeyFromObject(o), o))
		if !metav1.IsControlledBy(o, cluster) {
			t.Errorf("%T: owned by %v", o, o.GetOwnerReferences())
		}
	}

	// A field of ours is put right, one of somebody else stays.
	agents.Spec.Template.Spec.Containers[0].Image = "other:v1"
	agents.Labels["theirs"] = "x"
	must(c.Update(ctx, agents))
	kubetest.Await(t, c, "the image is put right", agents, func(d *appsv1.DaemonSet) bool {
		return d.Spec.Template.Spec.Containers[0].Image == "netio-agent:v1" && d.Labels["theirs"] == "x"
	})
	must(c.Delete(ctx, file))
	kubetest.Await(t, c, "the configuration is made again", file, func(f *corev1.ConfigMap) bool { return f.DeletionTimestamp == nil })

	// What takes effect while agents run starts none anew; what does not, all.
	before := agents.Spec.Template.Annotations[restartAnnotation]
	change := func(f func(*v1alpha1.NetIOClusterSpec)) {
		t.Helper()
		for {
			must(c.Get(ctx, client.ObjectKeyFromObject(cluster), cluster))
			f(&cluster.Spec)
			err := c.Update(ctx, cluster)
			if !apierrors.IsConflict(err) {
				must(err)
				return
			}
		}
	}
	change(func(s *v1alpha1.NetIOClusterSpec) { s.MasqueradeExcept = []v1alpha1.Prefix{"10.9.0.0/16"} })
	kubetest.Await(t, c, "the file has it", file, func(f *corev1.ConfigMap) bool { return strings.Contains(f.Data[configKey], "10.9.0.0/16") })
	kubetest.Await(t, c, "the status is of it", cluster, func(o *v1alpha1.NetIOCluster) bool { return o.Status.ObservedGeneration == o.Generation })
	must(c.Get(ctx, client.ObjectKeyFromObject(agents), agents))
	if agents.Spec.Template.Annotations[restartAnnotation] != before {
		t.Error("agents are restarted for masqueradeExcept")
	}
	change(func(s *v1alpha1.NetIOClusterSpec) { s.Tunnel, s.Device = &v1alpha1.Tunnel{}, v1alpha1.DeviceKernel })
	kubetest.Await(t, c, "agents are restarted for a tunnel", agents, func(d *appsv1.DaemonSet) bool {
		return d.Spec.Template.Annotations[restartAnnotation] != before
	})

	// An API server without image volumes would drop the image, and refuse the rest.
	change(func(s *v1alpha1.NetIOClusterSpec) {
		s.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModulePrebuilt, Images: []v1alpha1.KernelModuleImage{{KernelRegexp: "^6", Image: "modules:6"}}}
	})
	kubetest.Await(t, c, "the init container has the image", agents, func(d *appsv1.DaemonSet) bool {
		return slices.ContainsFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Image != nil && v.Image.Reference == "modules:6" }) &&
			slices.Contains(d.Spec.Template.Spec.InitContainers[0].Command, "/images/0~^6")
	})
	kubetest.Await(t, c, "the status is of that", cluster, func(o *v1alpha1.NetIOCluster) bool { return o.Status.ObservedGeneration == o.Generation })
	must(c.Get(ctx, client.ObjectKeyFromObject(agents), agents))

	agents.Status = appsv1.DaemonSetStatus{ObservedGeneration: agents.Generation, DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1}
	must(c.Status().Update(ctx, agents))
	kubetest.Await(t, c, "no node has reported", cluster, is(v1alpha1.ClusterAvailable, "False", reasonNotReady))
	node := &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	must(c.Create(ctx, node))
	node.Status.LastHeartbeatTime = metav1.Now()
	for kind, status := range map[string]metav1.ConditionStatus{v1alpha1.NodeReady: metav1.ConditionTrue, v1alpha1.NodeDegraded: metav1.ConditionTrue} {
		apimeta.SetStatusCondition(&node.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: "Test", Message: "something"})
	}
	must(c.Status().Update(ctx, node))
	kubetest.Await(t, c, "all are ready", cluster, is(v1alpha1.ClusterAvailable, "True", reasonAllReady))
	kubetest.Await(t, c, "one is degraded", cluster, is(v1alpha1.ClusterDegraded, "True", reasonNodes))
	kubetest.Await(t, c, "nothing is under way", cluster, is(v1alpha1.ClusterProgressing, "False", reasonComplete))
	if n := cluster.Status.Nodes; n.Summary != "1/1" {
		t.Errorf("nodes: %+v", n)
	}
}

// images have mode Auto take one.
func images(i v1alpha1.KernelModuleImage) func(*v1alpha1.NetIOCluster) {
	return func(o *v1alpha1.NetIOCluster) {
		o.Spec.KernelModule = &v1alpha1.KernelModule{Images: []v1alpha1.KernelModuleImage{i}}
	}
}

// TestRefused: mistakes that the API server can know of are told when they are made.
func TestRefused(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	c := kubetest.Client(t, config)
	for want, change := range map[string]func(*v1alpha1.NetIOCluster){
		"must be called netio":       func(o *v1alpha1.NetIOCluster) { o.Name = "other" },
		"end in a tag or a digest":   func(o *v1alpha1.NetIOCluster) { o.Spec.Image.Name = "localhost:5000/netio-agent" },
		"takes kubeProxyReplacement": func(o *v1alpha1.NetIOCluster) { o.Spec.ExternalIPs = true },
		"not used with device Soft": func(o *v1alpha1.NetIOCluster) {
			o.Spec.Device, o.Spec.KernelModule = v1alpha1.DeviceSoft, &v1alpha1.KernelModule{}
		},
		"mode Prebuilt takes images": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModulePrebuilt}
		},
		"are taken by mode Auto or Prebuilt alone": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleHost, Images: []v1alpha1.KernelModuleImage{{Kernel: "6.1", Image: "m:1"}}}
		},
		"is for mode Auto or Build alone": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleHost, Build: &v1alpha1.KernelModuleBuild{}}
		},
		"signs what is built": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleNone, SigningSecret: &v1alpha1.SigningSecret{Name: "mok"}}
		},
		"give kernel or kernelRegexp, and not both": images(v1alpha1.KernelModuleImage{Kernel: "6.1", KernelRegexp: "6", Image: "m:1"}),
		"for an expression use kernelRegexp":        images(v1alpha1.KernelModuleImage{Kernel: "^6.1", Image: "m:1"}),
		"missing closing )":                         images(v1alpha1.KernelModuleImage{KernelRegexp: "(6", Image: "m:1"}),
		"like netio-modules:v1.0.0":                 images(v1alpha1.KernelModuleImage{Kernel: "6.1", Image: "m"}),
		"from 10s to 1h": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Build: &v1alpha1.KernelModuleBuild{Timeout: &metav1.Duration{Duration: 1e9}}}
		},
		"like /var/cache/netio/kmod": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Build: &v1alpha1.KernelModuleBuild{CacheDir: "cache"}}
		},
		"like netio-kmod:v1.0.0": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Build: &v1alpha1.KernelModuleBuild{Image: "netio-kmod"}}
		},
		"leave out https://":    func(o *v1alpha1.NetIOCluster) { o.Spec.APIServer = &v1alpha1.APIServer{Host: "https://10.0.0.1"} },
		"an absolute path":      func(o *v1alpha1.NetIOCluster) { o.Spec.CNI = &v1alpha1.CNI{BinDir: "opt"} },
		"in CIDR notation":      func(o *v1alpha1.NetIOCluster) { o.Spec.MasqueradeExcept = []v1alpha1.Prefix{"10.0.0.1"} },
		"Unsupported value":     func(o *v1alpha1.NetIOCluster) { o.Spec.Device = "Fast" },
		"time of at most a day": func(o *v1alpha1.NetIOCluster) { o.Spec.CoolDown = &metav1.Duration{Duration: 1e9 * 3600 * 25} },
	} {
		o := newCluster()
		change(o)
		if err := c.Create(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// TestAccepted: what is not said has defaults, and what contradicts nothing is taken.
func TestAccepted(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	c := kubetest.Client(t, config)
	for name, change := range map[string]func(*v1alpha1.NetIOCluster){
		"nothing": func(*v1alpha1.NetIOCluster) {},
		"Soft":    func(o *v1alpha1.NetIOCluster) { o.Spec.Device = v1alpha1.DeviceSoft },
		"Soft and None": func(o *v1alpha1.NetIOCluster) {
			o.Spec.Device, o.Spec.KernelModule = v1alpha1.DeviceSoft, &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleNone}
		},
		"an expression": images(v1alpha1.KernelModuleImage{KernelRegexp: `^5\.14\..*\.el9(_[0-9]+)?\.x86_64$`, Image: "m:1"}),
		"all of Build": func(o *v1alpha1.NetIOCluster) {
			o.Spec.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleBuilt, SigningSecret: &v1alpha1.SigningSecret{Name: "mok"},
				Build: &v1alpha1.KernelModuleBuild{Image: "localhost:5000/netio-kmod:v1", CacheDir: "/opt/cache", Timeout: &metav1.Duration{Duration: 3600e9}}}
		},
	} {
		o := newCluster()
		change(o)
		if err := c.Create(t.Context(), o); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "nothing" && (o.Spec.Device != v1alpha1.DeviceAuto || o.Spec.KernelModule != nil) {
			t.Errorf("%+v", o.Spec)
		}
		if m := o.Spec.KernelModule; m != nil && m.Mode == "" {
			t.Errorf("%s: no mode", name)
		}
		if err := c.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}
