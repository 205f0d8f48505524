// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// RuleProtocols are the protocols that a rule is about: it matches if one of
// ports or of icmp does. Without both: every protocol.
type RuleProtocols struct {
	// ports are the destination ports that the rule is about. With neither ports
	// nor icmp the rule is about every protocol. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Ports []PortMatch `json:"ports,omitempty"`

	// icmp are the ICMP messages that the rule is about. Errors that belong to a
	// connection pass with it and need no rule. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	ICMP []ICMPMatch `json:"icmp,omitempty"`
}

// PortMatch is a destination port, a range of them, or a whole protocol.
//
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || has(self.port)",fieldPath=".endPort",message="needs port: give the first port of the range"
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || !has(self.port) || self.port <= self.endPort",fieldPath=".endPort",message="must not be less than port: exchange the two"
type PortMatch struct {
	// protocol is TCP, UDP or SCTP. Default: TCP.
	//
	// +optional
	// +kubebuilder:default=TCP
	Protocol Protocol `json:"protocol,omitempty"`

	// port is the destination port, or the first of a range that ends with
	// endPort. Left out: every port of the protocol.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// endPort is the last port of a range that begins with port.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort *int32 `json:"endPort,omitempty"`
}

// Protocol is a transport protocol that has ports.
//
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type Protocol string

const (
	ProtocolTCP  Protocol = "TCP"
	ProtocolUDP  Protocol = "UDP"
	ProtocolSCTP Protocol = "SCTP"
)

// ICMPMatch is a kind of ICMP message.
//
// +kubebuilder:validation:XValidation:rule="!has(self.code) || has(self.type)",fieldPath=".code",message="needs type: give the type that the code belongs to"
type ICMPMatch struct {
	// family is IPv4 (ICMP) or IPv6 (ICMPv6); their types differ.
	//
	// +required
	Family IPFamily `json:"family"`

	// type is the ICMP type, as in 8 (IPv4) and 128 (IPv6) for an echo request.
	// Left out: every type.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	Type *int32 `json:"type,omitempty"`

	// code is the ICMP code. Left out: every code of the type.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	Code *int32 `json:"code,omitempty"`
}

// IPFamily is a version of the Internet Protocol.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type IPFamily string

const (
	IPv4 IPFamily = "IPv4"
	IPv6 IPFamily = "IPv6"
)
