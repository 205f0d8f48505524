// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/smallstep/pkcs7"
)

// signatureMagic ends a signed module (Documentation/admin-guide/module-signing.rst).
const signatureMagic = "~Module signature appended~\n"

// trailerSize is that of struct module_signature before the magic
// (include/linux/module_signature.h): algo, hash, id_type, signer_len,
// key_id_len, three bytes of padding, sig_len in network order.
const trailerSize = 12

// idPKCS7 is PKEY_ID_PKCS7: the signature is a PKCS#7 message, and the other
// fields of the trailer are zero.
const idPKCS7 = 2

// maxSignature bounds a signature, in bytes; ours have less than 1 kB, those with
// certificates a few.
const maxSignature = 64 << 10

// ErrSignature is returned for a signature that the kernel would not read.
var ErrSignature = errors.New("damaged module signature")

// Signature is one that is appended to a module.
type Signature struct {
	Issuer string `json:"issuer,omitempty"` // of the certificate: its common name
	Serial string `json:"serial,omitempty"` // of the certificate, hexadecimal
	Length int64  `json:"-"`                // of all that is appended, in bytes
	der    []byte
}

// readSignature reads the end of a module; nil if it is not signed.
func readSignature(r io.ReaderAt, size int64) (*Signature, error) {
	end := make([]byte, trailerSize+len(signatureMagic))
	if size < int64(len(end)) {
		return nil, nil
	}
	if _, err := r.ReadAt(end, size-int64(len(end))); err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	if string(end[trailerSize:]) != signatureMagic {
		return nil, nil
	}
	length, err := parseTrailer(end[:trailerSize])
	if err != nil {
		return nil, err
	}
	before := size - int64(len(end)) - length
	if before <= 0 {
		return nil, fmt.Errorf("%w: %d bytes long, in a file of %d", ErrSignature, length, size)
	}
	s := &Signature{Length: length + int64(len(end)), der: make([]byte, length)}
	if _, err := r.ReadAt(s.der, before); err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	// A message that names its key otherwise than by issuer and serial number
	// is for the kernel to judge.
	if message, err := pkcs7.Parse(s.der); err == nil {
		for _, signer := range message.Signers {
			s.Issuer = commonName(signer.IssuerAndSerialNumber.IssuerName.FullBytes)
			if n := signer.IssuerAndSerialNumber.SerialNumber; n != nil {
				s.Serial = n.Text(16)
			}
		}
	}
	return s, nil
}

// parseTrailer is the length of the PKCS#7 message in bytes.
func parseTrailer(b []byte) (int64, error) {
	if len(b) != trailerSize {
		return 0, fmt.Errorf("%w: trailer of %d bytes", ErrSignature, len(b))
	}
	if b[2] != idPKCS7 {
		return 0, fmt.Errorf("%w: it is of type %d, expected %d (PKCS#7)", ErrSignature, b[2], idPKCS7)
	}
	for i, v := range b[:8] {
		if i != 2 && v != 0 {
			return 0, fmt.Errorf("%w: byte %d of its trailer is %d, expected 0", ErrSignature, i, v)
		}
	}
	n := int64(binary.BigEndian.Uint32(b[8:]))
	if n == 0 || n > maxSignature {
		return 0, fmt.Errorf("%w: %d bytes long, expected 1 to %d", ErrSignature, n, maxSignature)
	}
	return n, nil
}

// trailer is what follows a PKCS#7 message of this length.
func trailer(length int) []byte {
	b := make([]byte, trailerSize, trailerSize+len(signatureMagic))
	b[2] = idPKCS7
	binary.BigEndian.PutUint32(b[8:], uint32(length))
	return append(b, signatureMagic...)
}
