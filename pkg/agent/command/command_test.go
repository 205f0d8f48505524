// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func run(args ...string) (string, error) {
	root := New("v1.2.3", &cobra.Command{Use: "forward", Short: "another", Run: func(*cobra.Command, []string) {}})
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func TestCommand(t *testing.T) {
	tests := []struct {
		args []string
		out  string // in the output
		err  string // in the error
	}{
		{[]string{"version"}, "netio-agent v1.2.3\n", ""},
		{[]string{"--help"}, "podCIDRs: [10.244.0.0/24, fd00:10:244::/64]", ""},
		{[]string{"--help"}, "forward ", ""},
		{[]string{"cleanup", "--help"}, "--restore-sysctls", ""},
		{nil, "", "say --kubeconfig FILE, or --standalone"},
		{[]string{"--kubeconfig", "/none/config"}, "", "--kubeconfig: stat /none/config"},
		{[]string{"--standalone", "--node", "n1"}, "", "none of the others can be"},
		{[]string{"--standalone", "--config", "/none/agent.yaml"}, "", "write one, for example"},
		{[]string{"--standalone", "--log-level", "loud"}, "", "expected debug, info, warn or error"},
		{[]string{"--standalone", "--log-format", "xml"}, "", "expected text or json"},
		{[]string{"--manifest", "x"}, "", "unknown flag"},
		{[]string{"frobnicate"}, "", "unknown command"},
		{[]string{"cleanup", "--config", "/none/agent.yaml"}, "", "/none/agent.yaml"},
		{[]string{"uninstall", "--help"}, "kubectl debug node/NAME", ""},
		{[]string{"uninstall", "--root", "/none"}, "", "--root: chroot /none"},
		{[]string{"uninstall", "--cni-bin-dir", "bin"}, "", "installCNI.binDir"},
		{[]string{"ready", "--socket", "/none/agent.sock"}, "", "not ready: "},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			out, err := run(tt.args...)
			if !strings.Contains(out, tt.out) {
				t.Errorf("printed %q, expected %q in it", out, tt.out)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, expected %q", err, tt.err)
			}
		})
	}
}
