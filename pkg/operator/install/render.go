// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/config"
)

// AgentName is the name of the DaemonSet, and of all that belongs to it.
const AgentName = "netio-agent"

// Containers of an agent's pod.
const (
	AgentContainer     = "agent"
	ForwarderContainer = "forwarder"
)

// configKey is the agent's configuration in its ConfigMap, restartAnnotation what of it
// takes effect at a restart only.
const (
	configKey         = "agent.yaml"
	restartAnnotation = "netio.dev/restart"
)

// hostSysctls is where the node's /proc/sys/net is in an agent's container: its own is
// read-only.
const hostSysctls = "/host/proc/sys/net"

// podDir is what containers of one pod share, and forwardingFile what the agent waits for
// there before it takes over: its own forwarder, and not the one of the pod before. It
// has no content.
const (
	podDir         = "/run/netio-pod"
	forwardingFile = podDir + "/forwarding"
	podVolumeSize  = 64 << 10
)

// labels of all that belongs to the agents, and of their pods.
func labels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       AgentName,
		"app.kubernetes.io/part-of":    "netio",
		"app.kubernetes.io/managed-by": "netio-operator",
	}
}

// selector of the agents' pods, which can never change.
func selector() map[string]string { return map[string]string{"app.kubernetes.io/name": AgentName} }

// render makes the objects that a NetIOCluster asks for, in the order in which they
// are to be made.
func render(c *v1alpha1.NetIOCluster, namespace string) ([]client.Object, error) {
	text, err := agentConfig(&c.Spec)
	if err != nil {
		return nil, err
	}
	meta := func() metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: AgentName, Namespace: namespace, Labels: labels()}
	}
	binding := &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: AgentName, Labels: labels()},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: AgentName},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: AgentName, Namespace: namespace}},
	}
	objects := []client.Object{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta()},
		binding,
		&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta(), Data: map[string]string{configKey: text}},
		&appsv1.DaemonSet{TypeMeta: metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "DaemonSet"}, ObjectMeta: meta(), Spec: daemonSet(&c.Spec)},
	}
	for _, o := range objects {
		o.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(c, v1alpha1.GroupVersion.WithKind("NetIOCluster"))})
	}
	return objects, nil
}

// agentFile is the agent's configuration file, as far as a NetIOCluster says.
type agentFile struct {
	MTU                  *int32            `json:"mtu,omitempty"`
	Masquerade           *bool             `json:"masquerade,omitempty"`
	MasqueradeExcept     []v1alpha1.Prefix `json:"masqueradeExcept,omitempty"`
	KubeProxyReplacement bool              `json:"kubeProxyReplacement,omitempty"`
	ExternalIPs          bool              `json:"externalIPs,omitempty"`
	InstallCNI           installCNI        `json:"installCNI"`
	Tunnel               *v1alpha1.Tunnel  `json:"tunnel,omitempty"`
	CoolDown             *metav1.Duration  `json:"coolDown,omitempty"`
	Metrics              *agentMetrics     `json:"metrics,omitempty"`
}

type installCNI struct {
	BinDir       string `json:"binDir"`
	ConfDir      string `json:"confDir"`
	PortMappings bool   `json:"portMappings,omitempty"`
}

type agentMetrics struct {
	Address string `json:"address"`
	PerPod  bool   `json:"perPod,omitempty"`
}

// agentConfig is the agents' configuration file.
func agentConfig(s *v1alpha1.NetIOClusterSpec) (string, error) {
	cni := CNIOf(s)
	f := agentFile{
		MTU: s.MTU, Masquerade: s.Masquerade, MasqueradeExcept: s.MasqueradeExcept,
		KubeProxyReplacement: s.KubeProxyReplacement, ExternalIPs: s.ExternalIPs, Tunnel: s.Tunnel, CoolDown: s.CoolDown,
		InstallCNI: installCNI{BinDir: cni.BinDir, ConfDir: cni.ConfDir, PortMappings: cni.PortMappings},
	}
	if m := s.Metrics; m != nil {
		f.Metrics = &agentMetrics{Address: ":" + strconv.Itoa(int(m.Port)), PerPod: m.PerPod}
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("write the agents' configuration: %w", err)
	}
	if _, err := config.ParseNode(configKey, text); err != nil {
		return "", fmt.Errorf("the agents would not take this configuration: %w", err)
	}
	return string(text), nil
}

// CNIOf is where container runtimes look.
func CNIOf(s *v1alpha1.NetIOClusterSpec) v1alpha1.CNI {
	cni := v1alpha1.CNI{}
	if s.CNI != nil {
		cni = *s.CNI
	}
	cni.BinDir, cni.ConfDir = cmp.Or(cni.BinDir, config.DefaultCNIBinDir), cmp.Or(cni.ConfDir, config.DefaultCNIConfDir)
	return cni
}

// restartHash is a different one whenever the agents have to be restarted for their
// configuration.
func restartHash(s *v1alpha1.NetIOClusterSpec) string {
	h := sha256.New()
	if t := s.Tunnel; t != nil {
		fmt.Fprintf(h, "tunnel %+v\n", *t)
	}
	if d := s.CoolDown; d != nil {
		fmt.Fprintf(h, "coolDown %v\n", d.Duration)
	}
	if m := s.Metrics; m != nil {
		fmt.Fprintf(h, "metrics %+v\n", *m)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// daemonSet has an agent's pod on each node.
func daemonSet(s *v1alpha1.NetIOClusterSpec) appsv1.DaemonSetSpec {
	agents := v1alpha1.AgentPods{}
	if s.Agents != nil {
		agents = *s.Agents
	}
	tolerations := agents.Tolerations
	if tolerations == nil {
		// A node without network has taints that only the agent can have removed.
		tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	// A new one takes over from the old one, which ends when the new one is ready.
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	pod := corev1.PodSpec{
		ServiceAccountName: AgentName,
		// The agent's container has the token, no other.
		AutomountServiceAccountToken: new(false),
		HostNetwork:                  true,
		// The cluster's DNS is reached through what is started here.
		DNSPolicy:                     corev1.DNSDefault,
		PriorityClassName:             cmp.Or(agents.PriorityClassName, "system-node-critical"),
		NodeSelector:                  agents.NodeSelector,
		Tolerations:                   tolerations,
		TerminationGracePeriodSeconds: new(int64(10)),
		Volumes:                       append(volumes(s), apiAccess()),
		Containers:                    []corev1.Container{agentContainer(s, &agents), forwarderContainer(s, &agents)},
	}
	if m := moduleOf(s); m != nil {
		pod.Volumes = append(pod.Volumes, moduleVolumes(s, m)...)
		pod.InitContainers = []corev1.Container{moduleContainer(s, m)}
	}
	for _, name := range s.Image.PullSecrets {
		pod.ImagePullSecrets = append(pod.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return appsv1.DaemonSetSpec{
		Selector:       &metav1.LabelSelector{MatchLabels: selector()},
		UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &one}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{
				Labels: labels(),
				Annotations: map[string]string{
					restartAnnotation: restartHash(s),
					// What kubectl exec and logs take without -c.
					"kubectl.kubernetes.io/default-container": AgentContainer,
				},
			},
			Spec: pod,
		},
	}
}

// volume is a folder or file of the node, at the same path in the containers unless
// at is set.
type volume struct {
	name, path, at string
	kind           corev1.HostPathType
	// mounts of the node are to be seen.
	mounts bool
	in     []string
}

var both = []string{AgentContainer, ForwarderContainer}

// hostVolumes are what the containers need of the node.
func hostVolumes(s *v1alpha1.NetIOClusterSpec) []volume {
	cni := CNIOf(s)
	list := []volume{
		{name: "run", path: config.DefaultRunDir, kind: corev1.HostPathDirectoryOrCreate, in: both},
		{name: "state", path: config.DefaultStateDir, kind: corev1.HostPathDirectoryOrCreate, in: []string{AgentContainer}},
		// Pods' network namespaces, by either of their names.
		{name: "netns", path: "/run/netns", kind: corev1.HostPathDirectoryOrCreate, mounts: true, in: both},
		{name: "netns", at: "/var/run/netns", mounts: true, in: both},
		{name: "cni-bin", path: cni.BinDir, kind: corev1.HostPathDirectoryOrCreate, in: []string{AgentContainer}},
		{name: "cni-conf", path: cni.ConfDir, kind: corev1.HostPathDirectoryOrCreate, in: []string{AgentContainer}},
		{name: "sysctls", path: "/proc/sys/net", at: hostSysctls, kind: corev1.HostPathDirectory, in: []string{AgentContainer}},
	}
	if deviceOf(s) == v1alpha1.DeviceSoft {
		list = append(list, volume{name: "tun", path: "/dev/net/tun", kind: corev1.HostPathCharDev, in: []string{ForwarderContainer}})
	}
	return list
}

func volumes(s *v1alpha1.NetIOClusterSpec) []corev1.Volume {
	list := []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: AgentName}}}},
		{Name: "pod", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: resource.NewQuantity(podVolumeSize, resource.BinarySI)}}},
	}
	for _, v := range hostVolumes(s) {
		if v.path != "" {
			list = append(list, corev1.Volume{Name: v.name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: v.path, Type: &v.kind}}})
		}
	}
	return list
}

// mounts are those of a container.
func mounts(s *v1alpha1.NetIOClusterSpec, container string) []corev1.VolumeMount {
	list := []corev1.VolumeMount{{Name: "pod", MountPath: podDir, ReadOnly: container == AgentContainer}}
	for _, v := range hostVolumes(s) {
		for _, in := range v.in {
			if in != container {
				continue
			}
			m := corev1.VolumeMount{Name: v.name, MountPath: cmp.Or(v.at, v.path)}
			if v.mounts {
				m.MountPropagation = new(corev1.MountPropagationHostToContainer)
			}
			list = append(list, m)
		}
	}
	return list
}

func agentContainer(s *v1alpha1.NetIOClusterSpec, agents *v1alpha1.AgentPods) corev1.Container {
	env := []corev1.EnvVar{{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}}}
	if a := s.APIServer; a != nil {
		env = append(env, corev1.EnvVar{Name: "KUBERNETES_SERVICE_HOST", Value: a.Host}, corev1.EnvVar{Name: "KUBERNETES_SERVICE_PORT", Value: strconv.Itoa(int(a.Port))})
	}
	command := []string{"netio-agent", "--config", "/etc/netio/" + configKey, "--take-over", "--take-over-after", forwardingFile,
		"--sysctls", hostSysctls, "--log-level", cmp.Or(agents.LogLevel, "info")}
	if moduleOf(s) != nil {
		command = append(command, "--kernel-module", outcomeFile)
	}
	return corev1.Container{
		Name: AgentContainer, Image: s.Image.Name, ImagePullPolicy: s.Image.PullPolicy,
		Command:   command,
		Env:       env,
		Resources: agents.Agent,
		VolumeMounts: append([]corev1.VolumeMount{{Name: "config", MountPath: "/etc/netio", ReadOnly: true}, {Name: tokenVolume, MountPath: tokenDir, ReadOnly: true}},
			mounts(s, AgentContainer)...),
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"netio-agent", "ready"}}},
			PeriodSeconds:    10,
			TimeoutSeconds:   5,
			FailureThreshold: 3,
		},
		// The host's network and pods' are set up in their namespaces.
		SecurityContext: restricted("NET_ADMIN", "SYS_ADMIN"),
	}
}

func forwarderContainer(s *v1alpha1.NetIOClusterSpec, agents *v1alpha1.AgentPods) corev1.Container {
	c := corev1.Container{
		Name: ForwarderContainer, Image: s.Image.Name, ImagePullPolicy: s.Image.PullPolicy,
		Resources:    agents.Forwarder,
		VolumeMounts: mounts(s, ForwarderContainer),
	}
	device := "soft"
	switch deviceOf(s) {
	case v1alpha1.DeviceAuto:
		device = "auto"
	case v1alpha1.DeviceKernel:
		device = "kernel"
	}
	c.Command = []string{"netio-agent", "forward", "--take-over", "--forwarding-file", forwardingFile, "--device", device}
	if device == "soft" {
		// TUN interfaces in pods' namespaces; a thread that goes before others.
		c.SecurityContext = restricted("NET_ADMIN", "SYS_ADMIN", "SYS_NICE")
	} else {
		c.SecurityContext = &corev1.SecurityContext{Privileged: new(true), ReadOnlyRootFilesystem: new(true)}
	}
	return c
}

// restricted is root with these capabilities alone.
func restricted(capabilities ...corev1.Capability) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		Capabilities:           &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: capabilities},
		ReadOnlyRootFilesystem: new(true),
		RunAsUser:              new(int64(0)),
		SeccompProfile:         &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
