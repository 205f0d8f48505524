// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"path/filepath"

	"netio.dev/netio/test/kind/topology"
)

// controlPlane is etcd and what stands on it, on the node that has it. None of
// them waits for the others: each tries, or ends and is started again.
func (m *machine) controlPlane() []service {
	if !m.ControlPlane {
		return nil
	}
	file := func(name string) string { return filepath.Join(pkiDir, name) }
	services := join(m.record.Families.Of(topology.ServiceCIDRs))
	return []service{
		{"etcd", program("etcd"), []string{
			"--data-dir", "/var/lib/etcd", "--log-level", "warn",
			// The state is not for keeps, and disks of test machines are slow.
			"--unsafe-no-fsync",
			"--listen-client-urls", etcdURL(2379), "--advertise-client-urls", etcdURL(2379),
			"--listen-peer-urls", etcdURL(2380), "--initial-advertise-peer-urls", etcdURL(2380),
			"--initial-cluster", "default=" + etcdURL(2380),
		}},
		{"kube-apiserver", program("kube-apiserver"), []string{
			"--etcd-servers", etcdURL(2379),
			"--advertise-address", m.Addrs[0].String(),
			"--secure-port", fmt.Sprint(topology.APIPort),
			"--client-ca-file", file("ca.crt"),
			"--tls-cert-file", file("apiserver.crt"),
			"--tls-private-key-file", file("apiserver.key"),
			"--kubelet-client-certificate", file("apiserver-kubelet-client.crt"),
			"--kubelet-client-key", file("apiserver-kubelet-client.key"),
			"--kubelet-certificate-authority", file("ca.crt"),
			"--kubelet-preferred-address-types", "InternalIP,Hostname",
			"--service-account-key-file", file("sa.pub"),
			"--service-account-signing-key-file", file("sa.key"),
			"--service-account-issuer", "https://kubernetes.default.svc." + topology.Domain,
			"--service-cluster-ip-range", services,
			"--authorization-mode", "Node,RBAC",
			"--enable-admission-plugins", "NodeRestriction",
			"--requestheader-client-ca-file", file("front-proxy-ca.crt"),
			"--requestheader-allowed-names", "front-proxy-client",
			"--requestheader-extra-headers-prefix", "X-Remote-Extra-",
			"--requestheader-group-headers", "X-Remote-Group",
			"--requestheader-username-headers", "X-Remote-User",
			"--proxy-client-cert-file", file("front-proxy-client.crt"),
			"--proxy-client-key-file", file("front-proxy-client.key"),
			"--allow-privileged", "--profiling=false",
		}},
		// It ends when it starts before the roles are there, and is started again.
		{"kube-controller-manager", program("kube-controller-manager"), append(clientFlags("controller-manager"),
			"--root-ca-file", file("ca.crt"),
			"--service-account-private-key-file", file("sa.key"),
			"--use-service-account-credentials",
			"--cluster-signing-cert-file", file("ca.crt"),
			"--cluster-signing-key-file", file("ca.key"),
			"--allocate-node-cidrs",
			"--cluster-cidr", join(m.record.Families.Of(topology.PodCIDRs)),
			"--service-cluster-ip-range", services)},
		{"kube-scheduler", program("kube-scheduler"), clientFlags("scheduler")},
	}
}

// clientFlags of the two that share them. There is only one of each, so that
// they need not elect a leader.
func clientFlags(name string) []string {
	config := filepath.Join(pkiDir, name+".conf")
	return []string{
		"--kubeconfig", config, "--authentication-kubeconfig", config, "--authorization-kubeconfig", config,
		"--leader-elect=false", "--profiling=false",
	}
}

func etcdURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
