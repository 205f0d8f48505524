// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// serve greets with the pod's name and the address that the question came from:
// on TCP in a first line, after which it echoes; on UDP in answer to any
// datagram, from the address that it was sent to, which on a node is one of many.
func serve(port string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is no port", port)
	}
	return probe.Serve(context.Background(), name, uint16(number))
}
