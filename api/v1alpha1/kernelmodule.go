// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KernelModule says how nodes get the kernel module netio.ko: by a privileged init
// container of the agents' pods. What is loaded already, and has the right ABI, is kept. With
// device Auto a node that cannot have it uses the soft device, and its condition
// KernelModule says why and what would help.
//
// +kubebuilder:validation:XValidation:rule="self.mode != 'Prebuilt' || (has(self.images) && size(self.images) > 0)",fieldPath=".images",message="mode Prebuilt takes images: name at least one, or choose another mode"
// +kubebuilder:validation:XValidation:rule="!has(self.images) || size(self.images) == 0 || self.mode == 'Auto' || self.mode == 'Prebuilt'",fieldPath=".images",message="are taken by mode Auto or Prebuilt alone: choose one of them, or leave images out"
// +kubebuilder:validation:XValidation:rule="!has(self.build) || self.mode == 'Auto' || self.mode == 'Build'",fieldPath=".build",message="is for mode Auto or Build alone: choose one of them, or leave build out"
// +kubebuilder:validation:XValidation:rule="!has(self.signingSecret) || self.mode == 'Auto' || self.mode == 'Build'",fieldPath=".signingSecret",message="signs what is built, by mode Auto or Build: choose one of them, or leave signingSecret out"
type KernelModule struct {
	// mode is where the module is from: Host takes what is in the node's /lib/modules,
	// Prebuilt what is in the first of the images that is for the node's kernel, Build
	// builds it on the node, and Auto tries Host, Prebuilt (if there are images) and
	// Build. None has no init container: the module is loaded by other means, or not
	// wanted.
	//
	// +optional
	// +kubebuilder:default=Auto
	Mode KernelModuleMode `json:"mode,omitempty"`

	// images have modules that were built elsewhere. The first one counts that is for
	// the node's kernel; its files may be called RELEASE/netio.ko. Each is an image
	// volume (Kubernetes 1.35 and later, or the feature gate ImageVolume), which all
	// nodes pull: an image that cannot be pulled keeps agents from starting.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Images []KernelModuleImage `json:"images,omitempty"`

	// build says how it is built.
	//
	// +optional
	Build *KernelModuleBuild `json:"build,omitempty"`

	// signingSecret has the key that built modules are signed with, for nodes with
	// secure boot or lockdown. Only the init container has it.
	//
	// +optional
	SigningSecret *SigningSecret `json:"signingSecret,omitempty"`

	// resources are what the init container needs and may use. A compiler that lacks
	// memory is killed, and a delivery that was killed three times is given up.
	//
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// KernelModuleMode is where the module is from.
//
// +kubebuilder:validation:Enum=Auto;Prebuilt;Build;Host;None
type KernelModuleMode string

// Modes.
const (
	KernelModuleAuto     KernelModuleMode = "Auto"
	KernelModulePrebuilt KernelModuleMode = "Prebuilt"
	KernelModuleBuilt    KernelModuleMode = "Build"
	KernelModuleHost     KernelModuleMode = "Host"
	KernelModuleNone     KernelModuleMode = "None"
)

// KernelModuleImage is a container image with modules, and the kernels that it is for.
//
// +kubebuilder:validation:XValidation:rule="has(self.kernel) != has(self.kernelRegexp)",message="give kernel or kernelRegexp, and not both"
type KernelModuleImage struct {
	// kernel is the release of the kernel, whole, as `uname -r` says it.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._+~-]+$')",message="must be the release of a kernel, as `uname -r` says it; for an expression use kernelRegexp"
	Kernel string `json:"kernel,omitempty"`

	// kernelRegexp is a regular expression (RE2) for a part of the release; with ^ and
	// $ for all of it.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="size([''.matches(self)]) == 1",message="must be a regular expression (RE2)"
	KernelRegexp string `json:"kernelRegexp,omitempty"`

	// image is its name, with tag or digest.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ ]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$')",message="must end in a tag or a digest, like netio-modules:v1.0.0, so that all nodes have the same"
	Image string `json:"image"`
}

// KernelModuleBuild says how the module is built on a node: against the headers of its
// kernel, which have to be installed there, with the node's make and compiler if it has them.
type KernelModuleBuild struct {
	// image is that of the init container, with a toolchain for nodes that have none of
	// their own, as netio-kmod. Without it, it is the agents', which has the source
	// alone.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ ]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$')",message="must end in a tag or a digest, like netio-kmod:v1.0.0, so that all nodes have the same"
	Image string `json:"image,omitempty"`

	// cacheDir is a folder of the nodes for what was built.
	//
	// +optional
	// +kubebuilder:default="/var/cache/netio/kmod"
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="must be an absolute path, like /var/cache/netio/kmod"
	CacheDir string `json:"cacheDir,omitempty"`

	// timeout is how long a build may take, for which the node's network waits.
	//
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10s') && duration(self) <= duration('1h')",message="must be a time from 10s to 1h, like 10m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// SigningSecret is a Secret with a key and its certificate.
type SigningSecret struct {
	// name of a Secret in the operator's namespace with the private key as tls.key (PEM)
	// and its certificate as tls.crt (PEM or DER).
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// NodeKernelModule is what came of the kernel module's delivery to a node.
type NodeKernelModule struct {
	// state is Loaded, OtherABI (another version's is in the kernel), Missing,
	// Unsupported (the kernel takes no modules) or Begun.
	//
	// +optional
	State string `json:"state,omitempty"`

	// version of the module in the kernel.
	//
	// +optional
	Version string `json:"version,omitempty"`

	// abi is the version of its shared memory.
	//
	// +optional
	ABI string `json:"abi,omitempty"`

	// origin is where it was taken from: Loaded (it was there), Host, Image or Build.
	//
	// +optional
	Origin string `json:"origin,omitempty"`

	// kernel is the release of the node's kernel.
	//
	// +optional
	Kernel string `json:"kernel,omitempty"`

	// notes are what else is worth knowing.
	//
	// +optional
	// +listType=atomic
	Notes []string `json:"notes,omitempty"`
}
