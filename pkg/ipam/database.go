// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// The database. Leases are the only truth about who has what; which addresses
// are taken is derived from them.
//
//	meta      "version"      -> "1"
//	leases    owner          -> {"addresses": ["10.0.0.2", "fd00::2"], "since": time}
//	cooling   address        -> {"until": time}
//	cursors   pool's prefix  -> address given last
var (
	bucketMeta    = []byte("meta")
	bucketLeases  = []byte("leases")
	bucketCooling = []byte("cooling")
	bucketCursors = []byte("cursors")
	keyVersion    = []byte("version")
)

const (
	dbVersion = "1"
	dbMode    = 0o600
)

type leaseRecord struct {
	Addresses []netip.Addr `json:"addresses"`
	Since     time.Time    `json:"since"`
}

type coolingRecord struct {
	Until time.Time `json:"until"`
}

// openDatabase opens the file at path, making it if it is not there, and reads
// it whole. bbolt panics over broken pages; that becomes ErrCorrupt. (Its own
// Check does so in a goroutine where nobody can recover, as does Open when it
// has to rebuild a free list that is not on disk; hence neither is used.)
func openDatabase(path string, lockTimeout time.Duration) (db *bolt.DB, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createDatabase(path); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	}

	var file *os.File // still open, and locked, after a panic
	// A file that was cut short faults when its map is read.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, corrupt(path, fmt.Errorf("%v", r))
			// The map that bbolt leaves behind would keep the lock.
			unix.Flock(int(file.Fd()), unix.LOCK_UN)
			file.Close()
		}
	}()
	db, err = bolt.Open(path, dbMode, &bolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is locked; stop the other agent, or give this one a database of its own", ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, corrupt(path, err)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkDatabase(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	removeStrays(path)
	return db, nil
}

func corrupt(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; restore it, or move it away and restart the pods of this node, whose addresses are not known without it", ErrCorrupt, path, err)
}

// createDatabase makes an empty database under another name and links it to
// path when it is whole and on disk: a kill never leaves half of one there.
func createDatabase(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+strayInfix+"*")
	if err != nil {
		return err
	}
	temp := f.Name()
	defer os.Remove(temp)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(temp, dbMode, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketLeases, bucketCooling, bucketCursors} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyVersion, []byte(dbVersion))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Link, unlike rename, leaves a database that another process made meanwhile.
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

const strayInfix = ".new-"

// removeStrays clears what a kill inside createDatabase left.
func removeStrays(path string) {
	strays, _ := filepath.Glob(path + strayInfix + "*")
	for _, s := range strays {
		os.Remove(s)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkDatabase reads every page and value once.
func checkDatabase(db *bolt.DB) error {
	return db.View(func(tx *bolt.Tx) error {
		if info, err := os.Stat(db.Path()); err == nil && info.Size() < tx.Size() {
			return corrupt(db.Path(), fmt.Errorf("the file has %d bytes of %d", info.Size(), tx.Size()))
		}
		for _, name := range [][]byte{bucketMeta, bucketLeases, bucketCooling, bucketCursors} {
			b := tx.Bucket(name)
			if b == nil {
				return corrupt(db.Path(), fmt.Errorf("bucket %q is missing: not a lease database", name))
			}
			var last []byte
			err := b.ForEach(func(k, v []byte) error {
				if bytes.Compare(last, k) >= 0 || v == nil {
					return corrupt(db.Path(), fmt.Errorf("bucket %q: key %q out of order or without value", name, k))
				}
				last = bytes.Clone(k)
				return nil
			})
			if err != nil {
				return err
			}
		}
		if v := string(tx.Bucket(bucketMeta).Get(keyVersion)); v != dbVersion {
			return fmt.Errorf("%w: %s has version %q, this program knows %q; run the newer program again", ErrVersion, db.Path(), v, dbVersion)
		}
		return nil
	})
}

func putJSON(b *bolt.Bucket, key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), data)
}

// readDatabase calls back for each record.
func readDatabase(db *bolt.DB, lease func(Lease) error, cooling func(netip.Addr, time.Time), cursor func(netip.Prefix, netip.Addr)) error {
	return db.View(func(tx *bolt.Tx) error {
		err := tx.Bucket(bucketLeases).ForEach(func(k, v []byte) error {
			var r leaseRecord
			if err := json.Unmarshal(v, &r); err != nil {
				return corrupt(db.Path(), fmt.Errorf("lease of %q: %w", k, err))
			}
			return lease(Lease{Owner: string(k), Addresses: r.Addresses, Since: r.Since})
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketCooling).ForEach(func(k, v []byte) error {
			var r coolingRecord
			a, err := netip.ParseAddr(string(k))
			if err == nil {
				err = json.Unmarshal(v, &r)
			}
			if err != nil {
				return corrupt(db.Path(), fmt.Errorf("cooling address %q: %w", k, err))
			}
			cooling(a, r.Until)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketCursors).ForEach(func(k, v []byte) error {
			p, err := netip.ParsePrefix(string(k))
			if err != nil {
				return corrupt(db.Path(), fmt.Errorf("cursor: %w", err))
			}
			a, err := netip.ParseAddr(string(v))
			if err != nil {
				return corrupt(db.Path(), fmt.Errorf("cursor of %s: %w", p, err))
			}
			cursor(p, a)
			return nil
		})
	})
}
