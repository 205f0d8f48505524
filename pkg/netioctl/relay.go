// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"io"
	"net"

	"netio.dev/netio/pkg/netioctl/remote"
)

// relay copies in to a socket and what comes from it to out, until either ends. Before,
// it tells that the socket is open.
func relay(conn *net.UnixConn, in io.Reader, out io.Writer) error {
	if _, err := io.WriteString(out, remote.Greeting); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(out, conn)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(conn, in)
		ended <- err
	}()
	if err := <-ended; err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}
