// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The keeper's protocol, over a unix socket pair of type SEQPACKET. Each request
// is one message, an operation and a name, and has one answer but for list:
//
//	'p' name + descriptor   'k', or 'e' text
//	'd' name                'k', or 'e' text
//	'l'                     'f' name + descriptor for each file, then 'k'
const (
	opPut  = 'p'
	opDrop = 'd'
	opList = 'l'
	opFile = 'f'
	opOK   = 'k'
	opErr  = 'e'
)

const keeperMsgMax = 512

// ErrKeeper is returned when the keeper refuses, or does not speak the protocol.
var ErrKeeper = errors.New("keeper of the device's files")

// KeeperConn is the forwarder's end of the connection to a Store. It is a Keeper
// and may be used by several goroutines.
type KeeperConn struct {
	mu sync.Mutex
	c  *net.UnixConn
}

// NewKeeperConn speaks to the Store behind f, which Store.Connect has returned in
// the parent. f is closed.
func NewKeeperConn(f *os.File) (*KeeperConn, error) {
	c, err := seqpacketConn(f)
	if err != nil {
		return nil, err
	}
	return &KeeperConn{c: c}, nil
}

func seqpacketConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("keeper connection: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return nil, fmt.Errorf("%w: %s is not a unix socket of type SEQPACKET", ErrKeeper, f.Name())
	}
	return u, nil
}

// Put implements Keeper.
func (k *KeeperConn) Put(name string, fd int) error {
	return k.call(opPut, name, unix.UnixRights(fd))
}

// Drop implements Keeper.
func (k *KeeperConn) Drop(name string) error { return k.call(opDrop, name, nil) }

func (k *KeeperConn) call(op byte, name string, oob []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := sendKeeper(k.c, op, name, oob); err != nil {
		return err
	}
	_, _, err := k.answer()
	return err
}

// answer reads one message; opErr becomes an error. fd is -1 without a descriptor.
func (k *KeeperConn) answer() (op byte, f NamedFile, err error) {
	op, text, fd, err := recvKeeper(k.c)
	if err == nil && op == opErr {
		err = fmt.Errorf("%w: %s", ErrKeeper, text)
	}
	return op, NamedFile{text, fd}, err
}

// Files fetches all that the Store holds, as duplicates that belong to the caller.
func (k *KeeperConn) Files() ([]NamedFile, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := sendKeeper(k.c, opList, "", nil); err != nil {
		return nil, err
	}
	var files []NamedFile
	for {
		op, f, err := k.answer()
		if err == nil && op == opFile && f.FD >= 0 {
			files = append(files, f)
			continue
		}
		if err == nil && op == opOK {
			return files, nil
		}
		for _, f := range files {
			unix.Close(f.FD)
		}
		if err == nil {
			err = fmt.Errorf("%w: unexpected message %q", ErrKeeper, op)
		}
		return nil, err
	}
}

// Close ends the connection; the Store keeps what it has.
func (k *KeeperConn) Close() error { return k.c.Close() }

func sendKeeper(c *net.UnixConn, op byte, name string, oob []byte) error {
	if 1+len(name) > keeperMsgMax {
		name = name[:keeperMsgMax-1]
	}
	if _, _, err := c.WriteMsgUnix(append([]byte{op}, name...), oob, nil); err != nil {
		return fmt.Errorf("write to keeper connection: %w", err)
	}
	return nil
}

// recvKeeper reads a message with at most one descriptor; fd is -1 without.
func recvKeeper(c *net.UnixConn) (op byte, text string, fd int, err error) {
	buf, oob := make([]byte, keeperMsgMax), make([]byte, unix.CmsgSpace(4*4))
	n, on, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return 0, "", -1, fmt.Errorf("read from keeper connection: %w", err)
	}
	fds, err := rights(oob[:on])
	if err == nil && (n == 0 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(fds) > 1) {
		err = fmt.Errorf("%w: message of %d bytes with %d descriptors", ErrKeeper, n, len(fds))
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return 0, "", -1, err
	}
	fd = -1
	if len(fds) == 1 {
		fd = fds[0]
	}
	return buf[0], string(buf[1:n]), fd, nil
}

func rights(oob []byte) (fds []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("keeper connection: control message: %w", err)
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_RIGHTS {
			got, err := unix.ParseUnixRights(&m)
			if err != nil {
				return fds, fmt.Errorf("keeper connection: descriptors: %w", err)
			}
			fds = append(fds, got...)
		}
	}
	return fds, nil
}
