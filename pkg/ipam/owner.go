// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"strings"
)

// OwnerMax is the longest owner key, in bytes.
const OwnerMax = 1024

// Owner makes the key of a CNI attachment: "network/container/ifname". No part
// may hold a slash, which the CNI specification grants, so that the key can
// be taken apart and [NetworkPrefix] selects exactly one network.
func Owner(network, containerID, ifname string) string {
	return network + "/" + containerID + "/" + ifname
}

// NetworkPrefix is what the owners of a network's attachments begin with; see
// [Allocator.GC].
func NetworkPrefix(network string) string {
	return network + "/"
}

// ParseOwner takes a key made by [Owner] apart.
func ParseOwner(owner string) (network, containerID, ifname string, ok bool) {
	parts := strings.Split(owner, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

func checkOwner(owner string) error {
	if owner == "" {
		return fmt.Errorf("%w owner: the key is empty", ErrInvalid)
	}
	if len(owner) > OwnerMax {
		return fmt.Errorf("%w owner: the key has %d bytes, at most %d are allowed", ErrInvalid, len(owner), OwnerMax)
	}
	return nil
}
