// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"netio.dev/netio/test/kind/topology"
)

func read(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, data)
}

func parse(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("no PEM: %s", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestWrite(t *testing.T) {
	nodes, err := topology.Nodes(2, topology.DualStack)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Write(dir, nodes, topology.DualStack); err != nil {
		t.Fatal(err)
	}
	ca := x509.NewCertPool()
	ca.AddCert(read(t, filepath.Join(dir, "ca.crt")))
	frontProxy := x509.NewCertPool()
	frontProxy.AddCert(read(t, filepath.Join(dir, "front-proxy-ca.crt")))

	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	for _, c := range []struct {
		file  string
		roots *x509.CertPool
		usage x509.ExtKeyUsage
		names []string
	}{
		{"apiserver", ca, server, []string{"kubernetes.default.svc", "10.89.0.11", "10.96.0.1", "127.0.0.1"}},
		{"apiserver-kubelet-client", ca, client, nil},
		{"front-proxy-client", frontProxy, client, nil},
		{"kubelet-n2-serving", ca, server, []string{"n2", "10.89.0.12", "fd00:89::12"}},
	} {
		cert := read(t, filepath.Join(dir, c.file+".crt"))
		options := x509.VerifyOptions{Roots: c.roots, KeyUsages: []x509.ExtKeyUsage{c.usage}}
		if _, err := cert.Verify(options); err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
		for _, name := range c.names {
			if err := cert.VerifyHostname(name); err != nil {
				t.Errorf("%s: %v", c.file, err)
			}
		}
	}

	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubelet-n2.conf"))
	if err != nil {
		t.Fatal(err)
	}
	subject := parse(t, config.CertData).Subject
	if config.Host != topology.APIServer(nodes) || subject.CommonName != "system:node:n2" || subject.Organization[0] != "system:nodes" {
		t.Errorf("kubeconfig of n2: %s as %s", config.Host, subject)
	}
}
