// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"strings"
	"testing"
)

func TestCalledAs(t *testing.T) {
	for path, want := range map[string]string{
		"netioctl":                     "netioctl",
		"/usr/local/bin/netioctl":      "netioctl",
		"/usr/local/bin/kubectl-netio": "kubectl netio",
		"kubectl-net_io":               "kubectl net-io",
		"/opt/kubectl-x/n":             "netioctl",
		"":                             "netioctl",
	} {
		if got := calledAs(path); got != want {
			t.Errorf("%q: %q, expected %q", path, got, want)
		}
	}
}

// As a plugin of kubectl it names itself so, in usage, examples and errors.
func TestPluginNamesItself(t *testing.T) {
	for _, tt := range []struct {
		args, want string
		code       int
	}{
		{"--help", "\n  kubectl netio [command]\n", exitOK},
		{"policy explain --help", "\n  kubectl netio policy explain SRC DST:PORT[/PROTOCOL] [flags]\n", exitOK},
		{"policy explain --help", "\n  kubectl netio policy explain client web:icmp\n", exitOK},
		{"completion bash", "bash completion", exitOK},
		{"help policy explain", "kubectl netio policy explain SRC", exitOK},
		{"prots", "kubectl netio: there is no command \"prots\"", exitUsage},
		{"prots", "Run 'kubectl netio --help' for what it takes.", exitUsage},
		{"policy show nobody", "kubectl netio: find the cluster", exitError},
	} {
		t.Setenv("KUBECONFIG", "/none/config")
		b := newBed(t, goldenForwarder(), true)
		b.name = "kubectl netio"
		code := b.do(t, strings.Fields(tt.args)...)
		if got := b.out.String() + b.errOut.String(); code != tt.code || !strings.Contains(got, tt.want) {
			t.Errorf("%s: exit code %d, no %q in\n%s", tt.args, code, tt.want, got)
		}
	}
}
