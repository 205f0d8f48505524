// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == chainedPlugin {
		chainedMain()
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// built is the directory that binDir made, "" until then.
var built string

// binDir is a directory with the plugin, built when a test first asks for it
// (fuzzing does not), and this test binary as the plugin "chained".
var binDir = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "netio-cni")
	if err != nil {
		panic(err)
	}
	built = dir
	build := exec.Command("go", "build", "-o", dir, "netio.dev/netio/cmd/netio-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("go build: %v\n%s", err, out))
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, chainedPlugin))
	}
	if err != nil {
		panic(err)
	}
	return dir
})

// bed is a directory with an agent's socket, a state directory and the
// configuration that names them.
type bed struct {
	t        *testing.T
	dir      string
	socket   string
	stateDir string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	// Not t.TempDir: its names can be too long for a socket.
	dir, err := os.MkdirTemp("", "cni")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &bed{t: t, dir: dir, socket: filepath.Join(dir, "s"), stateDir: filepath.Join(dir, "state")}
}

// conf is a plugin configuration of version 1.1.0 with more fields, as JSON
// members.
func (b *bed) conf(members ...string) string {
	return b.confVersion("1.1.0", members...)
}

func (b *bed) confVersion(version string, members ...string) string {
	all := append([]string{
		fmt.Sprintf(`"cniVersion": %q, "name": "net", "type": "netio-cni", "agentSocket": %q, "stateDir": %q`, version, b.socket, b.stateDir),
	}, members...)
	return "{" + strings.Join(all, ", ") + "}"
}

// call is one run of the plugin.
type call struct {
	command  string
	stdin    string
	env      []string // more, or other than the usual
	code     int      // exit code
	out, err string
}

// cmd prepares the plugin for the attachment net/abc/eth0.
func (b *bed) cmd(command, stdin string, env ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binDir(), "netio-cni"))
	cmd.Env = append([]string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=abc", "CNI_NETNS=/run/netns/no-such-netns", "CNI_IFNAME=eth0", "CNI_PATH=" + binDir(),
	}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

func (b *bed) run(command, stdin string, env ...string) call {
	b.t.Helper()
	cmd := b.cmd(command, stdin, env...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); e != nil && !errors.As(e, &exit) {
		b.t.Fatal(e)
	}
	return call{command: command, stdin: stdin, env: env, code: cmd.ProcessState.ExitCode(), out: out.String(), err: err.String()}
}

// succeeds expects success and returns what is on stdout.
func (b *bed) succeeds(command, stdin string, env ...string) string {
	b.t.Helper()
	c := b.run(command, stdin, env...)
	if c.code != 0 || c.err != "" {
		b.t.Fatalf("%s: exit code %d\nstdout %s\nstderr %s", command, c.code, c.out, c.err)
	}
	return c.out
}

// fails expects an error of a code whose message has the texts, and nothing
// else on stdout.
func (b *bed) fails(code uint, command, stdin string, env []string, texts ...string) {
	b.t.Helper()
	c := b.run(command, stdin, env...)
	if c.code == 0 {
		b.t.Fatalf("%s succeeded: %s", command, c.out)
	}
	b.isError(c.out, code, texts...)
}

func (b *bed) isError(out string, code uint, texts ...string) {
	b.t.Helper()
	var e types.Error
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || d.More() {
		b.t.Fatalf("not one error on stdout: %v: %s", err, out)
	}
	if e.Code != code {
		b.t.Errorf("code %d, want %d: %s", e.Code, code, e.Error())
	}
	for _, s := range texts {
		if !strings.Contains(e.Error(), s) {
			b.t.Errorf("error does not say %q: %s", s, e.Error())
		}
	}
}
