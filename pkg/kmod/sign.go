// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/smallstep/pkcs7"
)

// hashes are those that modules are signed with (CONFIG_MODULE_SIG_HASH).
var hashes = map[string]asn1.ObjectIdentifier{
	"sha256": pkcs7.OIDDigestAlgorithmSHA256,
	"sha384": pkcs7.OIDDigestAlgorithmSHA384,
	"sha512": pkcs7.OIDDigestAlgorithmSHA512,
}

// defaultHash is what every kernel that checks signatures can compute.
const defaultHash = "sha256"

// ErrHash is returned for a hash that modules are not signed with.
var ErrHash = errors.New("unknown hash; expected sha256, sha384 or sha512")

// Sign is the module with a signature appended, instead of the one that it may have,
// as the kernel's own scripts/sign-file makes it: a detached PKCS#7 message
// without attributes and certificates, which the kernel would refuse or not need
// (crypto/asymmetric_keys/pkcs7_verify.c). The hash is a name as "sha256".
// Errors are ErrHash, ErrModule, ErrSignature, and that the key cannot sign.
func Sign(module []byte, key *Key, hash string) ([]byte, error) {
	digest, ok := hashes[hash]
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrHash, hash)
	}
	info, err := ReadModInfo(bytes.NewReader(module), int64(len(module)))
	if err != nil {
		return nil, err
	}
	if info.Signature != nil {
		module = module[:int64(len(module))-info.Signature.Length]
	}
	message, err := signMessage(module, key, digest)
	if err != nil {
		return nil, fmt.Errorf("sign module: %w", err)
	}
	signed := append(bytes.Clone(module), message...)
	return append(signed, trailer(len(message))...), nil
}

func signMessage(data []byte, key *Key, digest asn1.ObjectIdentifier) ([]byte, error) {
	s, err := pkcs7.NewSignedData(data)
	if err != nil {
		return nil, err
	}
	s.SetDigestAlgorithm(digest)
	if _, ok := key.Private.(*rsa.PrivateKey); ok {
		// The kernel knows this one only, and takes the hash from the digest.
		s.SetEncryptionAlgorithm(pkcs7.OIDEncryptionAlgorithmRSA)
	}
	if err := s.SignWithoutAttr(key.Certificate, key.Private, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	s.Detach()
	// Marshalled here and not by Finish, which adds the certificate.
	data7 := s.GetSignedData()
	if _, ok := key.Private.(*rsa.PrivateKey); ok {
		// RFC 3370, 3.2: the parameters are NULL.
		data7.SignerInfos[0].DigestEncryptionAlgorithm.Parameters = asn1.NullRawValue
	}
	inner, err := asn1.Marshal(*data7)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{pkcs7.OIDSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}})
}

// SignFile signs a module in place: a reader finds the old or the new one. A
// compressed one is refused. Errors are those of Sign and of the file system.
func SignFile(path string, key *Key, hash string) error {
	if compression(path) != "" {
		return fmt.Errorf("sign %s: it is compressed; a signature belongs into the file within: unpack it, sign, and pack it again", path)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	signed, err := Sign(module, key, hash)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replaceFile(path, signed, 0o644)
}

// replaceFile writes a file whole, or not at all.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return explainWrite(err, filepath.Dir(path))
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return explainWrite(err, filepath.Dir(path))
	}
	return nil
}

// commonName of a DER-encoded distinguished name, or all of it.
func commonName(der []byte) string {
	var rdn pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdn); err != nil {
		return ""
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdn)
	if name.CommonName != "" {
		return name.CommonName
	}
	return name.String()
}
