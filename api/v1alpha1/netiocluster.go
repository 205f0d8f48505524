// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterName is the name of the one NetIOCluster.
const ClusterName = "netio"

// NetIOCluster says how a cluster has its network from NetIO. The operator makes the
// agents of it, a DaemonSet, with their configuration and their rights, and keeps
// them as it is written here. There is one, called netio.
//
// Deleting it ends agents and forwarders: pods lose their network. What they have made on
// the nodes stays there.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nicluster,categories=netio
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Progressing",type=string,JSONPath=`.status.conditions[?(@.type=="Progressing")].status`
// +kubebuilder:printcolumn:name="Degraded",type=string,JSONPath=`.status.conditions[?(@.type=="Degraded")].status`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes.summary`
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.spec.image.name`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Degraded")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'netio'",message="must be called netio: a cluster has one NetIOCluster"
type NetIOCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	//
	// +required
	Spec NetIOClusterSpec `json:"spec"`

	// status is what became of it, as the operator found.
	//
	// +optional
	Status NetIOClusterStatus `json:"status,omitempty"`
}

// NetIOClusterList is a list of NetIOCluster objects.
//
// +kubebuilder:object:root=true
type NetIOClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetIOCluster `json:"items"`
}

// NetIOClusterSpec is how the network is to be.
//
// +kubebuilder:validation:XValidation:rule="!has(self.externalIPs) || !self.externalIPs || (has(self.kubeProxyReplacement) && self.kubeProxyReplacement)",fieldPath=".externalIPs",message="takes kubeProxyReplacement: set that too, or leave external IPs to kube-proxy"
// +kubebuilder:validation:XValidation:rule="!has(self.kernelModule) || self.kernelModule.mode == 'None' || self.device != 'Soft'",fieldPath=".kernelModule",message="is not used with device Soft: set device to Auto, or leave kernelModule out"
type NetIOClusterSpec struct {
	// image is the agents'.
	//
	// +required
	Image Image `json:"image"`

	// device is what moves the packets: Kernel is the module netio.ko, Soft the same in
	// user space over TUN interfaces, and Auto takes the module on nodes that have it,
	// and else the soft device. With Kernel a node without the module has no network
	// for pods. With Kernel and Auto the forwarder is a privileged container, as only
	// those may open the module's device.
	//
	// +optional
	// +kubebuilder:default=Auto
	Device Device `json:"device,omitempty"`

	// kernelModule says how nodes get the module. Without it the mode is Auto, and with
	// device Soft None.
	//
	// +optional
	KernelModule *KernelModule `json:"kernelModule,omitempty"`

	// apiServer is the address at which agents reach the API server, not by way of the
	// service kubernetes. It is needed where nobody else serves the nodes that
	// service: with kubeProxyReplacement.
	//
	// +optional
	APIServer *APIServer `json:"apiServer,omitempty"`

	// kubeProxyReplacement: services are reached through NetIO also from the nodes
	// themselves and from the world. There is to be no kube-proxy then.
	//
	// +optional
	KubeProxyReplacement bool `json:"kubeProxyReplacement,omitempty"`

	// externalIPs: services are also reached at the addresses that they claim in
	// spec.externalIPs. Who may write a service can claim any address by them
	// (CVE-2020-8554).
	//
	// +optional
	ExternalIPs bool `json:"externalIPs,omitempty"`

	// tunnel carries packets for other nodes' pods in VXLAN. Without it, nodes are
	// neighbours on one network and route to each other. A change restarts the agents,
	// and pods are cut off from those of other nodes until all have it.
	//
	// +optional
	Tunnel *Tunnel `json:"tunnel,omitempty"`

	// mtu is that of pods' interfaces, in bytes. Without it, it is what fits through
	// the interface that has the node's address.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1280
	// +kubebuilder:validation:Maximum=65535
	MTU *int32 `json:"mtu,omitempty"`

	// masquerade gives pods their node's address on the way to the world.
	//
	// +optional
	// +kubebuilder:default=true
	Masquerade *bool `json:"masquerade,omitempty"`

	// masqueradeExcept are destinations in the world that see pods' own addresses.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	MasqueradeExcept []Prefix `json:"masqueradeExcept,omitempty"`

	// coolDown is how long an address stays unused after a pod gave it back.
	//
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('24h')",message="must be a time of at most a day, like 30s or 5m"
	CoolDown *metav1.Duration `json:"coolDown,omitempty"`

	// cni says where container runtimes look for plugins and networks.
	//
	// +optional
	CNI *CNI `json:"cni,omitempty"`

	// metrics serves them on the nodes. Without it they are not served.
	//
	// +optional
	Metrics *Metrics `json:"metrics,omitempty"`

	// agents says how their pods are.
	//
	// +optional
	Agents *AgentPods `json:"agents,omitempty"`
}

// Device is what moves the packets.
//
// +kubebuilder:validation:Enum=Auto;Kernel;Soft
type Device string

// Devices.
const (
	DeviceAuto   Device = "Auto"
	DeviceKernel Device = "Kernel"
	DeviceSoft   Device = "Soft"
)

// Image is a container image.
type Image struct {
	// name with tag or digest, and with a registry unless the nodes know one.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ ]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$')",message="must end in a tag or a digest, like netio-agent:v1.0.0, so that all nodes run the same"
	Name string `json:"name"`

	// pullPolicy is when nodes pull it.
	//
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +kubebuilder:default=IfNotPresent
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`

	// pullSecrets are names of Secrets in the operator's namespace, by which nodes may
	// pull it.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	PullSecrets []string `json:"pullSecrets,omitempty"`
}

// APIServer is an address of API servers that does not depend on this network.
type APIServer struct {
	// host is a name or an address, of which IPv6 ones have no brackets.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.matches('[/ \\\\[\\\\]]')",message="must be a name or an address alone: leave out https:// and brackets"
	Host string `json:"host"`

	// port is TCP's.
	//
	// +optional
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// Tunnel is how packets for other nodes' pods are carried: in VXLAN (RFC 7348).
type Tunnel struct {
	// vni is the network identifier.
	//
	// +optional
	// +kubebuilder:default=9617
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	VNI int32 `json:"vni,omitempty"`

	// port is UDP's, which has to be open between the nodes.
	//
	// +optional
	// +kubebuilder:default=4789
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// CNI says where container runtimes look on the nodes.
type CNI struct {
	// binDir is where they look for plugins.
	//
	// +optional
	// +kubebuilder:default="/opt/cni/bin"
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="must be an absolute path, like /opt/cni/bin"
	BinDir string `json:"binDir,omitempty"`

	// confDir is where they look for networks.
	//
	// +optional
	// +kubebuilder:default="/etc/cni/net.d"
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="must be an absolute path, like /etc/cni/net.d"
	ConfDir string `json:"confDir,omitempty"`

	// portMappings has the plugin portmap, which has to be in binDir, serve hostPort.
	//
	// +optional
	PortMappings bool `json:"portMappings,omitempty"`
}

// Metrics says where agents serve metrics, and how fine they are.
type Metrics struct {
	// port is TCP's, on all addresses of a node.
	//
	// +optional
	// +kubebuilder:default=9617
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// perPod adds time series for each pod.
	//
	// +optional
	PerPod bool `json:"perPod,omitempty"`
}

// AgentPods says how the agents' pods are.
type AgentPods struct {
	// nodeSelector are labels of the nodes that have an agent. Nodes without one have
	// no network from NetIO.
	//
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are taints of nodes that have an agent nevertheless. Without it,
	// all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// priorityClassName of the pods.
	//
	// +optional
	// +kubebuilder:default="system-node-critical"
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// logLevel of the agent.
	//
	// +optional
	// +kubebuilder:default=info
	// +kubebuilder:validation:Enum=debug;info;warn;error
	LogLevel string `json:"logLevel,omitempty"`

	// agent is what the agent's container needs and may use.
	//
	// +optional
	Agent corev1.ResourceRequirements `json:"agent,omitempty"`

	// forwarder is what the forwarder's container needs and may use.
	//
	// +optional
	Forwarder corev1.ResourceRequirements `json:"forwarder,omitempty"`
}

// Conditions of a NetIOCluster.
const (
	// ClusterAvailable: pods have their network on all nodes that are up.
	ClusterAvailable = "Available"
	// ClusterProgressing: agents are being started or replaced.
	ClusterProgressing = "Progressing"
	// ClusterDegraded: something is wrong, and the message says what.
	ClusterDegraded = "Degraded"
)

// NetIOClusterStatus is what became of a NetIOCluster.
type NetIOClusterStatus struct {
	// conditions are Available (pods have their network on all nodes), Progressing
	// (agents are being started or replaced) and Degraded (something is wrong: the
	// message says what, and what to do).
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is that of the spec which this is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// nodes are numbers of nodes.
	//
	// +optional
	Nodes ClusterNodes `json:"nodes,omitempty"`
}

// ClusterNodes are numbers of nodes.
type ClusterNodes struct {
	// desired is how many should have an agent.
	//
	// +optional
	Desired int32 `json:"desired"`

	// updated is how many of them have one that is as the spec says.
	//
	// +optional
	Updated int32 `json:"updated"`

	// ready is how many of them give pods their network.
	//
	// +optional
	Ready int32 `json:"ready"`

	// summary is ready/desired.
	//
	// +optional
	Summary string `json:"summary,omitempty"`
}
