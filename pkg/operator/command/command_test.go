// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, tt := range []struct {
		args []string
		out  string // in the output
		err  string // in the error
	}{
		{[]string{"version"}, "netio-operator v1.2.3\n", ""},
		{[]string{"--help"}, "--leader-elect", ""},
		{nil, "", "say --kubeconfig FILE"},
		{[]string{"--kubeconfig", "/none/config"}, "", "--kubeconfig: stat /none/config"},
		{[]string{"--log-level", "loud"}, "", "expected debug, info, warn or error"},
		{[]string{"--log-format", "xml"}, "", "expected text or json"},
		{[]string{"frobnicate"}, "", "unknown command"},
		{[]string{"uninstall", "--help"}, "NetIONodes", ""},
		{[]string{"uninstall"}, "", "say --kubeconfig FILE"},
		{[]string{"uninstall", "--patience", "1ms"}, "", "expected a second at least"},
		{[]string{"uninstall", "--cluster", "/none/cluster.yaml"}, "", "--cluster: open /none/cluster.yaml"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			root := New("v1.2.3")
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs(tt.args)
			err := root.Execute()
			if !strings.Contains(out.String(), tt.out) {
				t.Errorf("printed %q, expected %q in it", out.String(), tt.out)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, expected %q", err, tt.err)
			}
		})
	}
}
