// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// TestKernelModule: what the init container is told, by the spec, and that nobody else has
// what is its own.
func TestKernelModule(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.NetIOClusterSpec)
		device string // of the forwarder
		has    string // in the init container's command, "" for no init container
		hasNot string
	}{
		{"nothing said", func(s *v1alpha1.NetIOClusterSpec) { s.Device = v1alpha1.DeviceAuto }, "auto", "--mode Auto --root /host --result /run/netio/kernel-module.json --cache /host/var/cache/netio/kmod --source /usr/local/kmod --timeout 10m", "--required"},
		{"Kernel", func(s *v1alpha1.NetIOClusterSpec) { s.Device = v1alpha1.DeviceKernel }, "kernel", "--mode Auto", ""},
		{"Kernel is required", func(s *v1alpha1.NetIOClusterSpec) { s.Device = v1alpha1.DeviceKernel }, "kernel", "--required", "--image"},
		{"Soft", func(s *v1alpha1.NetIOClusterSpec) { s.Device = v1alpha1.DeviceSoft }, "soft", "", ""},
		{"a tunnel", func(s *v1alpha1.NetIOClusterSpec) {
			s.Device, s.Tunnel = v1alpha1.DeviceAuto, &v1alpha1.Tunnel{VNI: 1, Port: 4789}
		}, "auto", "--mode Auto", ""},
		{"None", func(s *v1alpha1.NetIOClusterSpec) {
			s.Device, s.KernelModule = v1alpha1.DeviceAuto, &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleNone}
		}, "auto", "", ""},
		{"Host", func(s *v1alpha1.NetIOClusterSpec) {
			s.Device, s.KernelModule = v1alpha1.DeviceAuto, &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleHost}
		}, "auto", "--mode Host", "--key"},
		{"Prebuilt", func(s *v1alpha1.NetIOClusterSpec) {
			s.Device, s.KernelModule = v1alpha1.DeviceAuto, &v1alpha1.KernelModule{Mode: v1alpha1.KernelModulePrebuilt, Images: []v1alpha1.KernelModuleImage{
				{Kernel: "6.1.0-47-amd64", Image: "m:1"}, {KernelRegexp: `^5\.14\.`, Image: "m:2"},
			}}
		}, "auto", `--mode Prebuilt`, "--link-headers"},
		{"images in their order", func(s *v1alpha1.NetIOClusterSpec) {
			s.Device, s.KernelModule = v1alpha1.DeviceAuto, &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleAuto, Images: []v1alpha1.KernelModuleImage{
				{KernelRegexp: `^5\.14\.`, Image: "m:2"}, {Kernel: "6.1.0-47-amd64", Image: "m:1"},
			}}
		}, "auto", `--image /images/0~^5\.14\. --image /images/1=6.1.0-47-amd64`, ""},
		{"Build", func(s *v1alpha1.NetIOClusterSpec) {
			s.Device, s.KernelModule = v1alpha1.DeviceAuto, &v1alpha1.KernelModule{
				Mode: v1alpha1.KernelModuleBuilt, SigningSecret: &v1alpha1.SigningSecret{Name: "mok"},
				Build: &v1alpha1.KernelModuleBuild{Image: "netio-kmod:v1", CacheDir: "/opt/cache", Timeout: &metav1.Duration{Duration: 90 * time.Second}},
			}
		}, "auto", "--mode Build --root /host --result /run/netio/kernel-module.json --cache /host/opt/cache --source /usr/local/kmod --timeout 1m30s --link-headers --key /signing/tls.key --cert /signing/tls.crt", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, _ := daemonSetOf(t, tt.change)
			pod := d.Spec.Template.Spec
			agent := pod.Containers[slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == AgentContainer })]
			forwarder := pod.Containers[slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == ForwarderContainer })]
			if got := strings.Join(forwarder.Command, " "); !strings.HasSuffix(got, "--device "+tt.device) {
				t.Errorf("forwarder: %s", got)
			}
			if told := slices.Contains(agent.Command, "--kernel-module"); told != (tt.has != "") {
				t.Errorf("the agent is told of the outcome: %v", told)
			}
			volumes := map[string]bool{}
			for _, v := range pod.Volumes {
				volumes[v.Name] = true
			}
			for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
				for _, m := range c.VolumeMounts {
					if !volumes[m.Name] {
						t.Errorf("%s mounts %s, which is none of the pod's volumes", c.Name, m.Name)
					}
					if own := m.Name == "host" || m.Name == "signing" || strings.HasPrefix(m.Name, "modules-"); own && c.Name != KernelModuleContainer {
						t.Errorf("%s mounts %s", c.Name, m.Name)
					}
				}
			}
			if tt.has == "" {
				if len(pod.InitContainers) != 0 || volumes["host"] {
					t.Errorf("init containers %+v", pod.InitContainers)
				}
				return
			}
			if len(pod.InitContainers) != 1 {
				t.Fatalf("%d init containers", len(pod.InitContainers))
			}
			c := pod.InitContainers[0]
			command := strings.Join(c.Command, " ")
			if !strings.Contains(command, tt.has) || tt.hasNot != "" && strings.Contains(command, tt.hasNot) {
				t.Errorf("%s; expected %q and not %q", command, tt.has, tt.hasNot)
			}
			if !*c.SecurityContext.Privileged {
				t.Error("not privileged")
			}
		})
	}
}

// TestKernelModuleImages: images are volumes of images, and a Secret that is not there keeps no
// pod from starting.
func TestKernelModuleImages(t *testing.T) {
	d, _ := daemonSetOf(t, func(s *v1alpha1.NetIOClusterSpec) {
		s.Device, s.Image.PullPolicy = v1alpha1.DeviceAuto, corev1.PullNever
		s.KernelModule = &v1alpha1.KernelModule{
			Mode: v1alpha1.KernelModuleAuto, SigningSecret: &v1alpha1.SigningSecret{Name: "mok"}, Build: &v1alpha1.KernelModuleBuild{Image: "netio-kmod:v1"},
			Images: []v1alpha1.KernelModuleImage{{Kernel: "6.1", Image: "m:1"}},
		}
	})
	for _, v := range d.Spec.Template.Spec.Volumes {
		switch v.Name {
		case "modules-0":
			if v.Image == nil || *v.Image != (corev1.ImageVolumeSource{Reference: "m:1", PullPolicy: corev1.PullNever}) {
				t.Errorf("%+v", v)
			}
		case "signing":
			if v.Secret == nil || v.Secret.SecretName != "mok" || !*v.Secret.Optional || *v.Secret.DefaultMode != 0o400 {
				t.Errorf("%+v", v)
			}
		}
	}
	c := d.Spec.Template.Spec.InitContainers[0]
	if c.Image != "netio-kmod:v1" || c.ImagePullPolicy != corev1.PullNever || *c.SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("%+v", c)
	}
}
