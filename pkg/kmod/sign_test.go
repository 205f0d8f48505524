// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testKey is a key, and its files in a temporary directory.
func testKey(t *testing.T) (*Key, KeyFiles) {
	t.Helper()
	key, err := GenerateKey("a test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := KeyFiles{Private: filepath.Join(dir, "key.pem"), Certificate: filepath.Join(dir, "cert.der")}
	if err := key.Write(files); err != nil {
		t.Fatal(err)
	}
	return key, files
}

func TestSign(t *testing.T) {
	key, _ := testKey(t)
	plain := module()
	for hash := range hashes {
		signed, err := Sign(plain, key, hash)
		if err != nil {
			t.Fatal(err)
		}
		info, err := ReadModInfo(bytes.NewReader(signed), int64(len(signed)))
		if err != nil || info.Signature == nil {
			t.Fatalf("%s: %+v, %v", hash, info, err)
		}
		s := info.Signature
		if s.Issuer != "a test" || s.Serial != key.Certificate.SerialNumber.Text(16) || int64(len(signed))-s.Length != int64(len(plain)) {
			t.Errorf("%s: signature %+v of %d bytes", hash, s, len(signed))
		}
		again, err := Sign(signed, key, hash)
		if err != nil || !bytes.Equal(again, signed) {
			t.Errorf("%s: signing again: %d bytes after %d, %v", hash, len(again), len(signed), err)
		}
	}
	if _, err := Sign(plain, key, "md5"); !errors.Is(err, ErrHash) {
		t.Errorf("md5: %v", err)
	}
	if _, err := Sign([]byte("no module"), key, "sha256"); !errors.Is(err, ErrModule) {
		t.Errorf("no module: %v", err)
	}
}

// TestSignOpenSSL has the signature checked by another program, and that a changed
// module fails there.
func TestSignOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl")
	}
	key, files := testKey(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, key.Certificate, key.Certificate, private.Public(), key.Private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*Key{"rsa": key, "ecdsa": {Private: private, Certificate: cert}} {
		t.Run(name, func(t *testing.T) {
			signed, err := Sign(module(), key, "sha256")
			if err != nil {
				t.Fatal(err)
			}
			info, err := ReadModInfo(bytes.NewReader(signed), int64(len(signed)))
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Dir(files.Private)
			verify := func(content []byte) error {
				for file, b := range map[string][]byte{
					"content": content, "p7s": info.Signature.der,
					"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.Certificate.Raw}),
				} {
					if err := os.WriteFile(filepath.Join(dir, file), b, 0o644); err != nil {
						return err
					}
				}
				// -noverify: the certificate is trusted as it is.
				cmd := exec.Command(openssl, "smime", "-verify", "-binary", "-noverify", "-inform", "DER", "-in", "p7s", "-content", "content", "-certfile", "cert.pem", "-out", "out")
				cmd.Dir = dir
				if b, err := cmd.CombinedOutput(); err != nil {
					return errors.New(string(b))
				}
				return nil
			}
			content := signed[:int64(len(signed))-info.Signature.Length]
			if err := verify(content); err != nil {
				t.Errorf("refused: %v", err)
			}
			content[70] ^= 1
			if err := verify(content); err == nil {
				t.Error("a changed module is accepted")
			}
		})
	}
}

// TestSignFileOfKernel compares with the kernel's own program, byte for byte.
func TestSignFileOfKernel(t *testing.T) {
	found, _ := filepath.Glob("/usr/src/*/scripts/sign-file")
	if len(found) == 0 {
		t.Skip("there are no kernel headers with scripts/sign-file")
	}
	key, files := testKey(t)
	for hash := range hashes {
		path := filepath.Join(t.TempDir(), "netio.ko")
		if err := os.WriteFile(path, module(), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := exec.Command(found[0], hash, files.Private, files.Certificate, path).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", found[0], err, b)
		}
		theirs, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := Sign(module(), key, hash)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%s: signatures differ:\n%x\n%x", hash, ours[len(module()):], theirs[len(module()):])
		}
	}
}

func TestSignFile(t *testing.T) {
	key, _ := testKey(t)
	path := filepath.Join(t.TempDir(), "netio.ko")
	if err := os.WriteFile(path, module(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SignFile(path, key, "sha512"); err != nil {
		t.Fatal(err)
	}
	if m, err := ReadFile(path); err != nil || m.Signature == nil {
		t.Errorf("%+v, %v", m, err)
	}
	if err := SignFile(path+".xz", key, "sha512"); err == nil || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("packed: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKeyFiles(t *testing.T) {
	key, files := testKey(t)
	again, err := ReadKey(files)
	if err != nil || !again.Certificate.Equal(key.Certificate) {
		t.Fatalf("%v", err)
	}
	if fi, err := os.Stat(files.Private); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", fi.Mode(), err)
	}
	if err := key.Write(files); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written again: %v", err)
	}
	_, others := testKey(t)
	pemFile := filepath.Join(filepath.Dir(files.Private), "cert.pem")
	if err := os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.Certificate.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(filepath.Dir(files.Private), "locked.pem")
	if err := os.WriteFile(locked, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		files KeyFiles
		err   string
	}{
		{"PEM certificate", KeyFiles{files.Private, pemFile}, ""},
		{"other certificate", KeyFiles{files.Private, others.Certificate}, "for another key"},
		{"no key", KeyFiles{files.Certificate, files.Certificate}, "no private key"},
		{"passphrase", KeyFiles{locked, files.Certificate}, "passphrase"},
		{"key as certificate", KeyFiles{files.Private, files.Private}, "unusable signing key"},
		{"missing", KeyFiles{"/none/key", files.Certificate}, "/none/key"},
	}
	for _, tt := range tests {
		_, err := ReadKey(tt.files)
		if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, expected %q", tt.name, err, tt.err)
		}
	}
}

func TestTrailer(t *testing.T) {
	good := trailer(700)[:trailerSize]
	if n, err := parseTrailer(good); n != 700 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for name, change := range map[string]func([]byte){
		"type": func(b []byte) { b[2] = 1 }, "hash": func(b []byte) { b[1] = 4 }, "padding": func(b []byte) { b[6] = 1 },
		"length 0": func(b []byte) { clear(b[8:]) }, "too long": func(b []byte) { b[8] = 0xff },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, err := parseTrailer(b); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	longer := append(module(), trailer(1<<19)...)
	if _, err := ReadModInfo(bytes.NewReader(longer), int64(len(longer))); !errors.Is(err, ErrSignature) {
		t.Errorf("longer than the file: %v", err)
	}
}

func FuzzSignature(f *testing.F) {
	key, err := GenerateKey("fuzz", time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	signed, err := Sign(module(), key, "sha256")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(append([]byte{0x30, 0x80}, trailer(2)...))
	f.Add(trailer(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readSignature(bytes.NewReader(b), int64(len(b)))
		if s != nil && (err != nil || s.Length > int64(len(b))) {
			t.Errorf("%+v, %v in %d bytes", s, err, len(b))
		}
	})
}
