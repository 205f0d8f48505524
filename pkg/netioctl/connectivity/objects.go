// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"netio.dev/netio/api/v1alpha1"
)

// Labels of all that a test makes.
const (
	nameLabel = "app.kubernetes.io/name"
	appName   = "netio-connectivity-test"
	runLabel  = "netio.dev/connectivity-test" // which one it is
	roleLabel = "netio.dev/connectivity-role"
	nodeLabel = "netio.dev/connectivity-node" // its number in the test
)

// Ports of pods and services.
const (
	podPort     = 8080 // nobody needs a right to listen there
	servicePort = 80
)

// container is the one of a pod.
const container = "probe"

// nobody is the user of what needs no rights.
const nobody = 65532

func (t *test) labels() map[string]string {
	return map[string]string{nameLabel: appName, runLabel: t.run}
}

func (t *test) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: t.namespace, Labels: t.labels()}
}

// newNamespace may have pods in the nodes' network, which Pod Security admission lets
// privileged namespaces alone have.
func (t *test) newNamespace() *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.namespace, Labels: t.labels()}}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		ns.Labels["pod-security.kubernetes.io/"+mode] = "privileged"
	}
	return ns
}

// newPod is bound to its node: the scheduler is not what is tested, and nodes that take
// no new pods have a network too.
func (t *test) newPod(m *member, number int, p *party) *corev1.Pod {
	port, user := int(t.layout.port), int64(nobody)
	capabilities := &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	security := &corev1.PodSecurityContext{
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		// Echo requests without a capability. The sysctl is one of those that any pod may set.
		Sysctls: []corev1.Sysctl{{Name: "net.ipv4.ping_group_range", Value: "0 2147483647"}},
	}
	if p.role == roleHost {
		port, user, security.Sysctls = int(t.layout.hostPort), 0, nil
		capabilities.Add = []corev1.Capability{"NET_RAW"} // the same, where the sysctl is the node's
	}
	o := &corev1.Pod{
		ObjectMeta: t.meta(p.name),
		Spec: corev1.PodSpec{
			NodeName:                      m.name,
			HostNetwork:                   p.role == roleHost,
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext:               security,
			Containers: []corev1.Container{{
				Name:            container,
				Image:           m.image,
				ImagePullPolicy: m.pullPolicy,
				Command:         []string{"netioctl", "probe", "serve", "--name", p.name, "--port", strconv.Itoa(port)},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
				},
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: &user, RunAsGroup: &user, RunAsNonRoot: new(user != 0),
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), Capabilities: capabilities,
				},
				// Why it cannot serve is then in the pod's status.
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			}},
		},
	}
	for _, name := range t.pullSecrets {
		o.Spec.ImagePullSecrets = append(o.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	o.Labels[roleLabel], o.Labels[nodeLabel] = string(p.role), strconv.Itoa(number)
	return o
}

// newService has one endpoint, the pod of a node, and a port at all nodes.
func (t *test) newService(name string, number int) *corev1.Service {
	port := intstr.FromInt32(podPort)
	selector := t.labels()
	selector[roleLabel], selector[nodeLabel] = string(rolePod), strconv.Itoa(number)
	return &corev1.Service{ObjectMeta: t.meta(name), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: selector, IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
		Ports: []corev1.ServicePort{
			{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: servicePort, TargetPort: port},
			{Name: "udp", Protocol: corev1.ProtocolUDP, Port: servicePort, TargetPort: port},
		},
	}}
}

// newHeadless is the service of all pods but the others.
func (t *test) newHeadless() *corev1.Service {
	selector := t.labels()
	selector[roleLabel] = string(rolePod)
	return &corev1.Service{ObjectMeta: t.meta(t.layout.headless), Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Selector: selector, IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
		Ports: []corev1.ServicePort{{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: podPort}},
	}}
}

// newNetworkPolicy closes all other pods.
func (t *test) newNetworkPolicy(name string) *networkingv1.NetworkPolicy {
	selector := t.labels()
	selector[roleLabel] = string(rolePeer)
	return &networkingv1.NetworkPolicy{ObjectMeta: t.meta(name), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: selector}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
	}}
}

// newNetIOPolicy forbids pods to ask the other ones, and nothing else.
func (t *test) newNetIOPolicy(name string) *v1alpha1.NetIOPolicy {
	of := func(r role) v1alpha1.LabelSelector {
		return v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{runLabel: v1alpha1.LabelValue(t.run), roleLabel: v1alpha1.LabelValue(r)}}
	}
	return &v1alpha1.NetIOPolicy{ObjectMeta: t.meta(name), Spec: v1alpha1.NetIOPolicySpec{
		PodSelector: of(rolePod), PolicyTypes: []v1alpha1.PolicyType{v1alpha1.PolicyTypeEgress},
		Egress: []v1alpha1.EgressRule{
			{Name: "deny", Action: v1alpha1.ActionDeny, To: []v1alpha1.Peer{{PodSelector: new(of(rolePeer))}}},
			{Name: "allow", Action: v1alpha1.ActionAllow},
		},
	}}
}
