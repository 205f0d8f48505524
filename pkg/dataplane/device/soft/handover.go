// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Two supervisors hand a device's files over by the keeper's protocol, with one
// message more, so that always one of them has all:
//
//	'l'   'f' name + descriptor for each file, then 'k'      list: as to a forwarder
//	't'                                                      taken: the first one closes its own

// opTaken says that all files have arrived.
const opTaken = 't'

// HandOver gives all files to the Store that takes over at the other end of a unix
// socket of type SEQPACKET, and holds none then. After an error it holds them
// still. The forwarder must have ended.
func (s *Store) HandOver(c *net.UnixConn) error {
	s.done.Wait() // until all that it has said was heard
	for _, want := range []byte{opList, opTaken} {
		op, _, fd, err := recvKeeper(c)
		if fd >= 0 {
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
		if op != want {
			return fmt.Errorf("%w: unexpected message %q", ErrKeeper, op)
		}
		if op == opList {
			if err := s.answer(c, opList, "", -1); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.files {
		s.drop(name)
	}
	return nil
}

// TakeOver takes all files of the Store that hands over at the other end of c. No
// forwarder may be connected.
func (s *Store) TakeOver(c *net.UnixConn) error {
	files, err := (&KeeperConn{c: c}).Files()
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, f := range files {
		s.drop(f.Name)
		s.files[f.Name] = f.FD
	}
	s.mu.Unlock()
	return sendKeeper(c, opTaken, "", nil)
}

// Put holds a duplicate of a file that belongs to no device, in place of another one of
// that name.
func (s *Store) Put(name string, file *os.File) error {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate %s: %w", file.Name(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(name)
	s.files[name] = fd
	return nil
}

// Take is a file that the store holds no more, nil if there is none of that name.
func (s *Store) Take(name string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd, ok := s.files[name]
	if !ok {
		return nil
	}
	delete(s.files, name)
	return os.NewFile(uintptr(fd), name)
}
