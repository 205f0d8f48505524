// SPDX-License-Identifier: Apache-2.0

// Package pki makes the certificates and kubeconfigs of a cluster: what kubeadm
// makes, for a few hours' life and with keys that nobody protects.
//
//	ca ──┬─ apiserver (server)            front-proxy-ca ── front-proxy-client
//	     ├─ apiserver-kubelet-client      sa: key of service-account tokens
//	     ├─ admin, controller-manager, scheduler, proxy, netio-agent, netio-operator: kubeconfigs
//	     └─ per node: kubelet (client, kubeconfig), kubelet-serving
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"netio.dev/netio/test/kind/topology"
)

// life of the certificates: longer than anybody lets a test cluster run.
const life = 365 * 24 * time.Hour

// AdminConfig is the file name of the administrator's kubeconfig.
const AdminConfig = "admin.conf"

// Write makes everything for the nodes, in dir.
func Write(dir string, nodes []topology.Node, families topology.Families) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of certificates: %w", err)
	}
	w := &writer{dir: dir, server: topology.APIServer(nodes)}
	ca := w.authority("ca")
	frontProxy := w.authority("front-proxy-ca")
	apiServer := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-apiserver"},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + topology.Domain},
		IPAddresses: ips(append(nodes[0].Addrs, families.APIService(), netip.MustParseAddr("127.0.0.1"))...),
	}
	w.leaf("apiserver", ca, apiServer, x509.ExtKeyUsageServerAuth)
	w.client("apiserver-kubelet-client", ca, "kube-apiserver-kubelet-client", "system:masters")
	w.client("front-proxy-client", frontProxy, "front-proxy-client")
	for _, user := range []struct{ file, name, group string }{
		{"admin", "admin", "system:masters"},
		{"controller-manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
		{"proxy", "system:kube-proxy", ""},
	} {
		w.kubeconfig(user.file, ca, user.name, user.group)
	}
	for _, n := range nodes {
		name := "system:node:" + n.Name
		w.kubeconfig(KubeletName(n), ca, name, "system:nodes")
		serving := &x509.Certificate{
			Subject:     pkix.Name{CommonName: name, Organization: []string{"system:nodes"}},
			DNSNames:    []string{n.Name},
			IPAddresses: ips(n.Addrs...),
		}
		w.leaf(KubeletName(n)+"-serving", ca, serving, x509.ExtKeyUsageServerAuth)
	}
	w.serviceAccountKey()
	if w.err != nil {
		return fmt.Errorf("make certificates: %w", w.err)
	}
	return nil
}

// KubeletName is the name, without extension, of the files of a node's kubelet.
func KubeletName(n topology.Node) string { return "kubelet-" + n.Name }

// pair is a certificate and its key, as PEM too.
type pair struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

// writer makes certificates until the first error.
type writer struct {
	dir, server string
	serial      int64
	err         error
}

func (w *writer) authority(name string) *pair {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return w.sign(name, nil, t)
}

func (w *writer) leaf(name string, ca *pair, t *x509.Certificate, usage x509.ExtKeyUsage) *pair {
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	return w.sign(name, ca, t)
}

func (w *writer) client(name string, ca *pair, user string, groups ...string) *pair {
	subject := pkix.Name{CommonName: user, Organization: groups}
	return w.leaf(name, ca, &x509.Certificate{Subject: subject}, x509.ExtKeyUsageClientAuth)
}

// sign writes a new key and its certificate, signed by ca or, without one, by
// itself.
func (w *writer) sign(name string, ca *pair, t *x509.Certificate) *pair {
	if w.err != nil {
		return nil
	}
	w.serial++
	t.SerialNumber = big.NewInt(w.serial)
	t.NotBefore = time.Now().Add(-time.Minute)
	t.NotAfter = time.Now().Add(life)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.err = err
		return nil
	}
	parent, signer := t, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		w.err = fmt.Errorf("%s: %w", name, err)
		return nil
	}
	p := &pair{key: key, certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	if p.cert, w.err = x509.ParseCertificate(der); w.err != nil {
		return nil
	}
	p.keyPEM = w.encodeKey(key)
	w.write(name+".crt", p.certPEM)
	w.write(name+".key", p.keyPEM)
	return p
}

func (w *writer) encodeKey(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.err = err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// kubeconfig writes NAME.conf, which has certificate and key in it.
func (w *writer) kubeconfig(name string, ca *pair, user, group string) {
	var groups []string
	if group != "" {
		groups = []string{group}
	}
	p := w.client(name, ca, user, groups...)
	if w.err != nil {
		return
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["netio"] = &clientcmdapi.Cluster{Server: w.server, CertificateAuthorityData: ca.certPEM}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: p.certPEM, ClientKeyData: p.keyPEM}
	c.Contexts["netio"] = &clientcmdapi.Context{Cluster: "netio", AuthInfo: user}
	c.CurrentContext = "netio"
	data, err := clientcmd.Write(*c)
	if err != nil {
		w.err = fmt.Errorf("%s.conf: %w", name, err)
		return
	}
	w.write(name+".conf", data)
}

// serviceAccountKey is RSA: the algorithm of tokens that every client knows.
func (w *writer) serviceAccountKey() {
	if w.err != nil {
		return
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.err = err
		return
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		w.err = err
		return
	}
	w.write("sa.key", w.encodeKey(key))
	w.write("sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

func (w *writer) write(name string, data []byte) {
	if w.err == nil {
		w.err = os.WriteFile(filepath.Join(w.dir, name), data, 0o600)
	}
}

func ips(addrs ...netip.Addr) []net.IP {
	list := make([]net.IP, len(addrs))
	for i, a := range addrs {
		list[i] = a.AsSlice()
	}
	return list
}
