// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/kmod"
)

// KernelModuleContainer is the init container that gets the kernel module into the
// node's kernel.
const KernelModuleContainer = "kernel-module"

const (
	// hostRoot is where that container has the node's file system: all of it, since a
	// mount of a folder that a node does not have, and cannot make, would keep the pod
	// from starting.
	hostRoot = "/host"
	// imagesDir has a folder for each of the images, by its number.
	imagesDir  = "/images"
	signingDir = "/signing"
	// moduleSource is where the images have the module's source.
	moduleSource = "/usr/local/kmod"
	// outcomeFile tells the agent what came of it. It is gone after a boot.
	outcomeFile = config.DefaultRunDir + "/kernel-module.json"
)

// deviceOf is the device that the agents get.
func deviceOf(s *v1alpha1.NetIOClusterSpec) v1alpha1.Device {
	return cmp.Or(s.Device, v1alpha1.DeviceSoft)
}

// moduleOf is how nodes get the module, nil if they do not.
func moduleOf(s *v1alpha1.NetIOClusterSpec) *v1alpha1.KernelModule {
	if deviceOf(s) == v1alpha1.DeviceSoft {
		return nil
	}
	m := v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleAuto}
	if s.KernelModule != nil {
		m = *s.KernelModule
	}
	if m.Mode = cmp.Or(m.Mode, v1alpha1.KernelModuleAuto); m.Mode == v1alpha1.KernelModuleNone {
		return nil
	}
	return &m
}

// BringsModule tells whether nodes get the kernel module from NetIO.
func BringsModule(s *v1alpha1.NetIOClusterSpec) bool { return moduleOf(s) != nil }

// imageVolume is the name of the volume of one of the images.
func imageVolume(n int) string { return fmt.Sprintf("modules-%d", n) }

// moduleVolumes are those that the init container alone has.
func moduleVolumes(s *v1alpha1.NetIOClusterSpec, m *v1alpha1.KernelModule) []corev1.Volume {
	list := []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/", Type: new(corev1.HostPathDirectory)}}}}
	for n, i := range m.Images {
		list = append(list, corev1.Volume{Name: imageVolume(n), VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: i.Image, PullPolicy: s.Image.PullPolicy}}})
	}
	if k := m.SigningSecret; k != nil {
		// A Secret that is not there is told by the container, and keeps no pod from
		// starting.
		list = append(list, corev1.Volume{Name: "signing", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: k.Name, Optional: new(true), DefaultMode: new(int32(0o400))}}})
	}
	return list
}

// moduleContainer gets the module into the node's kernel. It ends well whatever is in the
// way, so that the agent can tell.
func moduleContainer(s *v1alpha1.NetIOClusterSpec, m *v1alpha1.KernelModule) corev1.Container {
	b := v1alpha1.KernelModuleBuild{}
	if m.Build != nil {
		b = *m.Build
	}
	timeout := "10m"
	if b.Timeout != nil {
		timeout = b.Timeout.Duration.String()
	}
	c := corev1.Container{
		Name: KernelModuleContainer, Image: cmp.Or(b.Image, s.Image.Name), ImagePullPolicy: s.Image.PullPolicy,
		Command: []string{
			"netio-agent", "kmod", "deliver", "--mode", string(m.Mode), "--root", hostRoot, "--result", outcomeFile,
			"--cache", path.Join(hostRoot, cmp.Or(b.CacheDir, kmod.DefaultCache)), "--source", moduleSource, "--timeout", timeout,
		},
		Resources: m.Resources,
		VolumeMounts: []corev1.VolumeMount{
			{Name: "host", MountPath: hostRoot, MountPropagation: new(corev1.MountPropagationHostToContainer)},
			{Name: "run", MountPath: config.DefaultRunDir},
		},
		SecurityContext: &corev1.SecurityContext{Privileged: new(true), RunAsUser: new(int64(0)), ReadOnlyRootFilesystem: new(b.Image == "")},
	}
	if s.Device == v1alpha1.DeviceKernel {
		c.Command = append(c.Command, "--required")
	}
	if b.Image != "" {
		c.Command = append(c.Command, "--link-headers")
	}
	for n, i := range m.Images {
		dir := path.Join(imagesDir, fmt.Sprint(n))
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: imageVolume(n), MountPath: dir, ReadOnly: true})
		choice := dir + "=" + i.Kernel
		if i.KernelRegexp != "" {
			choice = dir + "~" + i.KernelRegexp
		}
		c.Command = append(c.Command, "--image", choice)
	}
	if m.SigningSecret != nil {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "signing", MountPath: signingDir, ReadOnly: true})
		c.Command = append(c.Command, "--key", path.Join(signingDir, "tls.key"), "--cert", path.Join(signingDir, "tls.crt"))
	}
	return c
}

// KernelModuleCommand is what that container runs, nil if a cluster has none.
func KernelModuleCommand(s *v1alpha1.NetIOClusterSpec) []string {
	m := moduleOf(s)
	if m == nil {
		return nil
	}
	return moduleContainer(s, m).Command
}
