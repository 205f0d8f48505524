// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// shutdownTimeout is how long a machine may take to end, with two scans for
// leaks before.
const shutdownTimeout = 2 * time.Minute

// Start boots a machine for a test. When the test ends, the machine is shut
// down, and the test fails if its kernel complained of anything. Init and
// Output are set here.
func Start(t testing.TB, c Config) *Machine {
	t.Helper()
	return StartAll(t, c)[0]
}

// StartAll boots machines as Start does, all at the same time.
func StartAll(t testing.TB, configs ...Config) []*Machine {
	t.Helper()
	init := Build(t, "./test/vm/guest")
	machines, errs := make([]*Machine, len(configs)), make([]error, len(configs))
	var booting sync.WaitGroup
	for i, c := range configs {
		c.Init, c.Output = init, t.Output()
		booting.Go(func() {
			began := time.Now()
			machines[i], errs[i] = Boot(t.Context(), c)
			if errs[i] == nil {
				t.Logf("booted %s in %.1f s", c.Series.Release, time.Since(began).Seconds())
			}
		})
	}
	booting.Wait()
	for _, m := range machines {
		if m == nil {
			continue
		}
		t.Cleanup(func() {
			// The test's own context is over by now.
			ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
			defer cancel()
			if err := m.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return machines
}

// MustRun runs a program, and ends the test unless it succeeds.
func (m *Machine) MustRun(t testing.TB, c Command) Result {
	t.Helper()
	result, err := m.Run(t.Context(), c)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(c.Args, " "), err)
	}
	return result
}

// TestBinary is the tests of a package, as a program for a machine.
type TestBinary struct {
	Files []File // for Config
	dir   string
	name  string
}

// GoTest builds the tests of a package, named from the top of the tree
// ("./pkg/dataplane/ring"). Its testdata comes along.
func GoTest(t testing.TB, pkg string) TestBinary {
	t.Helper()
	b := TestBinary{dir: path.Join("/test", pkg), name: path.Base(pkg) + ".test"}
	binary := filepath.Join(t.TempDir(), b.name)
	goTool(t, "test", "-c", "-ldflags=-s -w", "-o", binary, pkg)
	b.Files = []File{{path.Join(b.dir, b.name), binary}}
	data := filepath.Join(top(t), pkg, "testdata")
	if _, err := os.Stat(data); err == nil {
		b.Files = append(b.Files, File{path.Join(b.dir, "testdata"), data})
	}
	return b
}

// Command runs the tests, with arguments such as -test.run=Conformance.
func (b TestBinary) Command(args ...string) Command {
	args = append([]string{path.Join(b.dir, b.name), "-test.v"}, args...)
	return Command{Args: args, Dir: b.dir, Timeout: 15 * time.Minute}
}

// Build builds a static program of the tree, and returns its path.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), path.Base(pkg))
	goTool(t, "build", "-ldflags=-s -w", "-o", binary, pkg)
	return binary
}

func goTool(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = top(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// KernelModules builds kmod/ for a kernel, and returns the modules: netio.ko,
// and after it those that need it.
func KernelModules(t testing.TB, series Series) []string {
	t.Helper()
	tree := top(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(tree, "hack/kmod.sh"), "build", series.Name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build netio.ko for %s: %v\n%s", series.Name, err, out)
	}
	files, err := filepath.Glob(filepath.Join(tree, "build/kmod", series.Name, "*.ko"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b string) int { return len(a) - len(b) })
	return files
}

// top of the tree: the folder of go.mod.
func top(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("this test is not run in NetIO's tree")
		}
		dir = filepath.Dir(dir)
	}
}
