// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"
)

// keyBits is the length that shim and all firmware take.
const keyBits = 2048

// keyLife is how long a certificate is valid. The kernel does not look; other
// tools for machine owner keys use the same hundred years.
const keyLife = 36500 * 24 * time.Hour

// oidModuleSigning is the extended key usage by which shim takes the key for
// kernel modules only, and not for boot loaders
// (https://github.com/rhboot/shim, OID_EKU_MODSIGN).
var oidModuleSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 2312, 16, 1, 2}

// ErrKey is returned for a key or certificate that cannot sign modules.
var ErrKey = errors.New("unusable signing key")

// Key signs modules.
type Key struct {
	Private     crypto.Signer
	Certificate *x509.Certificate
}

// GenerateKey makes a key, and a certificate of its own for this name, as
// Documentation/admin-guide/module-signing.rst describes. Errors are those of
// the system's source of random numbers.
func GenerateKey(name string, now time.Time) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: name},
		// Clocks of machines that boot may be behind.
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.Add(keyLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{oidModuleSigning},
		BasicConstraintsValid: true,
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}
	// RFC 7093, 2, method 1.
	id := sha256.Sum256(x509.MarshalPKCS1PublicKey(&private.PublicKey))
	template.SubjectKeyId, template.AuthorityKeyId = id[:20], id[:20]
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &Key{Private: private, Certificate: cert}, nil
}

// KeyFiles are where a key is: the private key as PEM, the certificate as PEM
// or DER. The DER form is what mokutil takes.
type KeyFiles struct {
	Private     string
	Certificate string
}

// Write writes the private key for its owner only, and the certificate as DER.
// Existing files are not overwritten: the error wraps fs.ErrExist.
func (k *Key) Write(files KeyFiles) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := writeNew(files.Private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := writeNew(files.Certificate, k.Certificate.Raw, 0o644); err != nil {
		return fmt.Errorf("write certificate: %w", errors.Join(err, os.Remove(files.Private)))
	}
	return nil
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadKey reads a key pair. Errors are ErrKey, with the file's name, and those of reading.
func ReadKey(files KeyFiles) (*Key, error) {
	b, err := os.ReadFile(files.Private)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	private, err := parsePrivate(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files.Private, err)
	}
	if b, err = os.ReadFile(files.Certificate); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	cert, err := x509.ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", files.Certificate, ErrKey, err)
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(private.Public()) {
		return nil, fmt.Errorf("%s: %w: the certificate is for another key than %s", files.Certificate, ErrKey, files.Private)
	}
	return &Key{Private: private, Certificate: cert}, nil
}

// parsePrivate reads an RSA or ECDSA key: PKCS#8, PKCS#1 or SEC 1.
func parsePrivate(b []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%w: it has a passphrase; write it without: openssl pkcs8 -in FILE -out FILE", ErrKey)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, nil
		case *ecdsa.PrivateKey:
			return key, nil
		}
		return nil, fmt.Errorf("%w: it is a %T; expected RSA or ECDSA", ErrKey, key)
	}
	return nil, fmt.Errorf("%w: no private key in PEM form", ErrKey)
}
