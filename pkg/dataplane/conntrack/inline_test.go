// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"os/exec"
	"strings"
	"testing"
)

// TestInlined: what the fast path calls for every packet is inlined into its loops.
func TestInlined(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{"(*Table).Hash", "(*Table).SlotLine", "(*Table).Guess", "(*Table).DirLine", "(*Table).Is", "(*Table).At", "(*Table).Conn", "(*Dir).Has", "(*Dir).Count", "(*Key).Is"} {
		if !strings.Contains(string(out), "can inline "+f+"\n") {
			t.Errorf("%s is not inlined any more", f)
		}
	}
}
