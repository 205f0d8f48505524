// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"

	"github.com/containernetworking/plugins/pkg/ns"

	"netio.dev/netio/pkg/agent/netnsid"
)

// ErrNoNetNS is returned for a path that is no network namespace, or no more
// the one that was meant.
var ErrNoNetNS = errors.New("no such network namespace")

// Identify returns the identity of the network namespace at path.
func Identify(path string) (netnsid.ID, error) {
	n, err := open(path)
	if err != nil {
		return netnsid.ID{}, err
	}
	defer n.Close()
	return netnsid.Of(n.Fd())
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

// openSame opens the namespace at path if it is the one with the identity.
func openSame(path string, id netnsid.ID) (ns.NetNS, error) {
	n, err := open(path)
	if err != nil {
		return nil, err
	}
	switch got, err := netnsid.Of(n.Fd()); {
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
func Alive(path string, id netnsid.ID) (bool, error) {
	n, err := openSame(path, id)
	if errors.Is(err, ErrNoNetNS) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, n.Close()
}
