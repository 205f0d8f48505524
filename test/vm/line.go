// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"net"
	"testing"
)

// NewLine returns an end of a wire for a machine, and the other one for the test
// itself, which lasts as long as the test. A frame there is its length, 4 bytes in
// network order, and its bytes. Who writes more than the machine takes has to wait,
// and who does not read has the machine wait.
func NewLine(t testing.TB) (Wire, net.Conn) {
	t.Helper()
	ours, theirs, err := socketPair("line")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	t.Cleanup(func() { theirs.Close() })
	line, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	return Wire{MAC: "52:54:00:00:00:0a", line: theirs}, line
}
