// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"os/exec"
	"strings"
	"testing"
)

// What a worker calls for every packet must be inlined into its loop, or not
// watching costs a call.
func TestChecksAreInlined(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	out, err := exec.Command(goTool, "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("build with -gcflags=-m: %v\n%s", err, out)
	}
	for _, f := range []string{"(*Worker).Active", "(*Worker).Emit", "(*Tap).Active", "(*Tap).Want", "(*Tap).Need"} {
		if !strings.Contains(string(out), "can inline "+f+"\n") {
			t.Errorf("%s is not inlined any more", f)
		}
	}
}
