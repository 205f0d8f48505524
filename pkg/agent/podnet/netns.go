// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/attachment"
)

// ErrNoNetNS is returned for a path that is no network namespace, or no more
// the one that was meant.
var ErrNoNetNS = errors.New("no such network namespace")

// Identify returns the identity of the network namespace at path.
func Identify(path string) (attachment.NetNSID, error) {
	n, err := open(path)
	if err != nil {
		return attachment.NetNSID{}, err
	}
	defer n.Close()
	return identity(n)
}

// open opens the namespace, which stays the same one while it is open,
// whatever becomes of the path.
func open(path string) (ns.NetNS, error) {
	n, err := ns.GetNS(path)
	var gone ns.NSPathNotExistErr
	var other ns.NSPathNotNSErr
	if errors.As(err, &gone) || errors.As(err, &other) {
		return nil, fmt.Errorf("%w: %v", ErrNoNetNS, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return n, nil
}

func identity(n ns.NetNS) (attachment.NetNSID, error) {
	boot, err := bootID()
	if err != nil {
		return attachment.NetNSID{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(n.Fd()), &st); err != nil {
		return attachment.NetNSID{}, fmt.Errorf("stat network namespace: %w", err)
	}
	return attachment.NetNSID{Dev: st.Dev, Inode: st.Ino, Boot: boot}, nil
}

// openSame opens the namespace at path if it is the one with the identity.
func openSame(path string, id attachment.NetNSID) (ns.NetNS, error) {
	n, err := open(path)
	if err != nil {
		return nil, err
	}
	switch got, err := identity(n); {
	case err != nil:
		n.Close()
		return nil, err
	case got != id:
		n.Close()
		return nil, fmt.Errorf("%w: another one is at %s now", ErrNoNetNS, path)
	}
	return n, nil
}

// Alive tells whether the namespace with the identity is still at path. The
// error says that this could not be found out.
func Alive(path string, id attachment.NetNSID) (bool, error) {
	n, err := openSame(path, id)
	if errors.Is(err, ErrNoNetNS) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, n.Close()
}

// bootID tells the runs of a machine apart: inode numbers come again after a
// reboot. See random(4).
var bootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot ID: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
})
