// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/config"
)

func daemonSetOf(t *testing.T, change func(*v1alpha1.NetIOClusterSpec)) (*appsv1.DaemonSet, *corev1.ConfigMap) {
	t.Helper()
	c := newCluster()
	c.Spec.Device = v1alpha1.DeviceSoft
	change(&c.Spec)
	objects, err := render(c, "netio-system")
	if err != nil {
		t.Fatal(err)
	}
	var d *appsv1.DaemonSet
	var f *corev1.ConfigMap
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			d = o
		case *corev1.ConfigMap:
			f = o
		}
	}
	return d, f
}

// TestPrivileges: nothing but the forwarder of the kernel's device is privileged.
func TestPrivileges(t *testing.T) {
	for device, want := range map[v1alpha1.Device]bool{v1alpha1.DeviceSoft: false, v1alpha1.DeviceAuto: true, v1alpha1.DeviceKernel: true} {
		d, _ := daemonSetOf(t, func(s *v1alpha1.NetIOClusterSpec) { s.Device = device })
		for _, c := range d.Spec.Template.Spec.Containers {
			s := c.SecurityContext
			privileged := s.Privileged != nil && *s.Privileged
			if privileged != (want && c.Name == ForwarderContainer) {
				t.Errorf("%s: %s: privileged %v", device, c.Name, privileged)
			}
			if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || !privileged && !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: %s: %+v", device, c.Name, s)
			}
		}
	}
}

// TestConfig: what the NetIOCluster says is what the agent reads.
func TestConfig(t *testing.T) {
	mtu, off := int32(1400), false
	_, f := daemonSetOf(t, func(s *v1alpha1.NetIOClusterSpec) {
		s.MTU, s.Masquerade, s.MasqueradeExcept = &mtu, &off, []v1alpha1.Prefix{"10.0.0.0/8"}
		s.KubeProxyReplacement, s.ExternalIPs = true, true
		s.Tunnel = &v1alpha1.Tunnel{VNI: 7, Port: 8472}
		s.CNI = &v1alpha1.CNI{BinDir: "/usr/lib/cni", ConfDir: "/etc/net.d", PortMappings: true}
		s.Metrics = &v1alpha1.Metrics{Port: 9617, PerPod: true}
	})
	c, err := config.ParseNode(configKey, []byte(f.Data[configKey]))
	if err != nil {
		t.Fatal(err)
	}
	if c.MTU != 1400 || c.Masquerade || len(c.MasqueradeExcept) != 1 || !c.KubeProxyReplacement || !c.ExternalIPs ||
		*c.Tunnel != (config.Tunnel{VNI: 7, Port: 8472}) || c.InstallCNI.BinDir != "/usr/lib/cni" || c.InstallCNI.ConfDir != "/etc/net.d" || !c.InstallCNI.PortMappings ||
		c.Metrics.Address != ":9617" || !c.Metrics.PerPod {
		t.Errorf("%+v", c)
	}
}

// TestAPIServer: agents reach it where the spec says, before what they are told by
// their environment.
func TestAPIServer(t *testing.T) {
	d, _ := daemonSetOf(t, func(s *v1alpha1.NetIOClusterSpec) { s.APIServer = &v1alpha1.APIServer{Host: "fd00::1", Port: 6443} })
	got := map[string]string{}
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			got[e.Name] = e.Value
		}
	}
	if got["KUBERNETES_SERVICE_HOST"] != "fd00::1" || got["KUBERNETES_SERVICE_PORT"] != "6443" {
		t.Errorf("%v", got)
	}
}

// TestTolerations: agents run wherever nodes are, unless the spec says where.
func TestTolerations(t *testing.T) {
	d, _ := daemonSetOf(t, func(*v1alpha1.NetIOClusterSpec) {})
	if got := d.Spec.Template.Spec.Tolerations; len(got) != 1 || got[0].Operator != corev1.TolerationOpExists || got[0].Key != "" {
		t.Errorf("%v", got)
	}
	d, _ = daemonSetOf(t, func(s *v1alpha1.NetIOClusterSpec) { s.Agents = &v1alpha1.AgentPods{Tolerations: []corev1.Toleration{}} })
	if got := d.Spec.Template.Spec.Tolerations; len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestToken: who forwards strangers' packets cannot talk to the API server.
func TestToken(t *testing.T) {
	d, _ := daemonSetOf(t, func(*v1alpha1.NetIOClusterSpec) {})
	pod := d.Spec.Template.Spec
	if *pod.AutomountServiceAccountToken {
		t.Error("kubelet gives all containers the token")
	}
	for _, c := range pod.Containers {
		has := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == tokenVolume })
		if has != (c.Name == AgentContainer) {
			t.Errorf("%s: has the token: %v", c.Name, has)
		}
	}
}
