// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// LabelSelector picks objects by their labels. It has the form and the meaning
// of Kubernetes' own selector (meta/v1), with bounds, so that the schema can
// refuse a selector that means nothing.
type LabelSelector struct {
	// matchLabels are labels that must be there with these values. At most 32.
	//
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))",message="must have label keys, like app or example.com/role: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, optionally after a DNS name and '/'"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions are conditions that must all hold. At most 32.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []LabelExpression `json:"matchExpressions,omitempty"`
}

// LabelExpression is a condition on one label.
//
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",fieldPath=".values",message="must list at least one value for In and NotIn; to ask whether the label is there use Exists or DoesNotExist"
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",fieldPath=".values",message="must be left out for Exists and DoesNotExist; to compare values use In or NotIn"
type LabelExpression struct {
	// key is the label's key, like app or example.com/role: at most 63 letters,
	// digits, '-', '_' and '.', beginning and ending with a letter or digit,
	// optionally after a DNS name and '/'.
	//
	// +required
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$`
	Key string `json:"key"`

	// operator is In, NotIn, Exists or DoesNotExist. NotIn also holds where the
	// label is missing.
	//
	// +required
	Operator LabelOperator `json:"operator"`

	// values are what In and NotIn compare the label with. At most 64.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Values []LabelValue `json:"values,omitempty"`
}

// LabelOperator is how a label is compared.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelOperator string

const (
	LabelIn           LabelOperator = "In"
	LabelNotIn        LabelOperator = "NotIn"
	LabelExists       LabelOperator = "Exists"
	LabelDoesNotExist LabelOperator = "DoesNotExist"
)

// LabelValue is the value of a label: letters, digits, '-', '_' and '.', at most
// 63, beginning and ending with a letter or digit, or empty.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string
