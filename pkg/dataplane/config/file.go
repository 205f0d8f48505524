// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// ErrCorrupt is returned by Load for a file that is not whole, has been changed,
// or is not a snapshot. The file tells nothing then; move it aside and wait for a
// snapshot.
var ErrCorrupt = errors.New("snapshot file is damaged")

// ErrFileVersion is returned by Load for a file of another version; the message
// names both.
var ErrFileVersion = errors.New("snapshot file is of another version")

// The file, all numbers big-endian:
//
//	0   "NETIO-SNAPSHOT\n\x00"
//	16  version
//	20  CRC-32C of what follows
//	24  length of the message
//	32  the Snapshot message
const (
	fileMagic   = "NETIO-SNAPSHOT\n\x00"
	fileVersion = 1
	fileHeader  = len(fileMagic) + 4 + 4 + 8
	sumAt       = len(fileMagic) + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Save writes a snapshot to a file that only the owner may read. It is atomic:
// whatever happens the file has either its old or its new content, and once Save
// has returned the new one survives a power failure. One caller at a time.
func Save(path string, s *dataplanev1.Snapshot) error {
	raw := make([]byte, fileHeader, fileHeader+proto.Size(s))
	raw, err := proto.MarshalOptions{}.MarshalAppend(raw, s)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	copy(raw, fileMagic)
	binary.BigEndian.PutUint32(raw[len(fileMagic):], fileVersion)
	binary.BigEndian.PutUint64(raw[sumAt+4:], uint64(len(raw)-fileHeader))
	binary.BigEndian.PutUint32(raw[sumAt:], crc32.Checksum(raw[sumAt+4:], castagnoli))

	tmp := path + ".tmp" // always the same, so that crashes leave one at most
	if err := writeSynced(tmp, raw); err != nil {
		return fmt.Errorf("write snapshot file: %w", errors.Join(err, remove(tmp)))
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("put snapshot file in place: %w", errors.Join(err, remove(tmp)))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync folder of snapshot file: %w", err)
	}
	return nil
}

func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load reads what Save wrote. It returns ErrCorrupt or ErrFileVersion, with
// what is wrong, for a file that it cannot use, and an error that wraps
// fs.ErrNotExist if there is none. The snapshot may have been written by another
// forwarder: Validate it.
func Load(path string) (*dataplanev1.Snapshot, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read snapshot file: %w", err)
	}
	s, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func decode(raw []byte) (*dataplanev1.Snapshot, error) {
	if len(raw) < len(fileMagic)+4 || string(raw[:len(fileMagic)]) != fileMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrCorrupt)
	}
	if v := binary.BigEndian.Uint32(raw[len(fileMagic):]); v != fileVersion {
		return nil, fmt.Errorf("%w: it has version %d, this forwarder reads version %d", ErrFileVersion, v, fileVersion)
	}
	if len(raw) < fileHeader {
		return nil, fmt.Errorf("%w: it ends within its header", ErrCorrupt)
	}
	if n := binary.BigEndian.Uint64(raw[sumAt+4:]); n != uint64(len(raw)-fileHeader) {
		return nil, fmt.Errorf("%w: it has %d bytes of content, and should have %d", ErrCorrupt, len(raw)-fileHeader, n)
	}
	if got, want := crc32.Checksum(raw[sumAt+4:], castagnoli), binary.BigEndian.Uint32(raw[sumAt:]); got != want {
		return nil, fmt.Errorf("%w: its checksum is %#08x, and should be %#08x", ErrCorrupt, got, want)
	}
	s := new(dataplanev1.Snapshot)
	if err := proto.Unmarshal(raw[fileHeader:], s); err != nil {
		return nil, fmt.Errorf("%w: decode message: %w", ErrCorrupt, err)
	}
	return s, nil
}
