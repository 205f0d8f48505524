// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestWrongConfiguration(t *testing.T) {
	long := "/" + strings.Repeat("x", 107)
	for _, c := range []struct {
		members string
		code    uint
		says    []string
	}{
		{`"bridge": "cni0"`, 2, []string{"bridge: unknown field", `"cni0"`}},
		{`"MTU": 1400`, 2, []string{"MTU: unknown field", "did you mean mtu?"}},
		{`"agentsocket": "/x"`, 2, []string{"did you mean agentSocket?"}},
		{`"long": "` + strings.Repeat("ä", 200) + `"`, 2, []string{"..."}},
		{`"mtu": 100`, 7, []string{"mtu: expected a whole number from 1280 to 65535", "got 100"}},
		{`"mtu": 70000`, 7, []string{"mtu"}},
		{`"mtu": 1500.5`, 7, []string{"mtu", "1500.5"}},
		{`"mtu": "1500"`, 7, []string{"mtu", `"1500"`}},
		{`"timeoutSeconds": 0`, 7, []string{"timeoutSeconds: expected a whole number of seconds from 1 to 600, got 0"}},
		{`"timeoutSeconds": 1e9`, 7, []string{"timeoutSeconds"}},
		{`"agentSocket": "agent.sock"`, 7, []string{"agentSocket: expected an absolute path", `"agent.sock"`}},
		{`"agentSocket": 5`, 7, []string{"agentSocket"}},
		{`"agentSocket": "` + long + `"`, 7, []string{"108 bytes long", "at most 107"}},
		{`"stateDir": "state"`, 7, []string{"stateDir: expected an absolute path"}},
		{`"stateDir": "/a\u0000b"`, 7, []string{"stateDir"}},
		{`"ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}`, 2, []string{"ipam", "host-local", "the agent leases the addresses"}},
		{`"ipam": "host-local"`, 7, []string{"ipam: expected an object"}},
		{`"dns": []`, 7, []string{"dns: expected an object"}},
		{`"args": []`, 7, []string{"args: expected an object"}},
		{`"args": {"cni": {"labels": {"app": "web"}}}`, 7, []string{"args: cni.labels: expected a list such as"}},
		{`"args": {"cni": {"labels": [{"key": "app", "value": "web"}, {"key": "x"}]}}`, 7, []string{"cni.labels: entry 1", "expected {"}},
		{`"args": {"cni": {"labels": [{"key": "", "value": "web"}]}}`, 7, []string{"entry 0"}},
		{`"args": {"cni": {"labels": [null]}}`, 7, []string{"entry 0"}},
		{`"args": {"cni": {"labels": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}}`, 7, []string{`label "a" is given as "1" and as "2"`}},
		{`"args": {"cni": {"ips": "10.0.0.1"}}`, 7, []string{"args: cni.ips: expected a list of addresses"}},
		{`"args": {"cni": {"ips": ["10.0.0.1", "10.0.0.256"]}}`, 7, []string{"cni.ips: entry 1", `"10.0.0.256"`}},
		{`"runtimeConfig": 1`, 7, []string{"runtimeConfig: expected an object"}},
		{`"runtimeConfig": {"ips": ["fe80::1%eth0"]}`, 7, []string{"runtimeConfig: ips: entry 0", "fe80::1%eth0"}},
		{`"runtimeConfig": {"dns": []}, "dns": {}`, 0, nil},
		{`"runtimeConfig": {"dns": "x"}`, 7, []string{"runtimeConfig: dns: expected an object"}},
		{`"runtimeConfig": {"portMappings": [{"hostPort": 80}]}`, 2, []string{"portMappings", `{"hostPort": 80}`, "move it to the capabilities of a plugin"}},
		{`"runtimeConfig": {"mac": "02:00:00:00:00:01"}`, 2, []string{"mac", "remove it from capabilities"}},
		{`"prevResult": []`, 7, []string{"prevResult: expected a result object"}},
		{`"prevResult": {"cniVersion": "0.4.0"}`, 7, []string{"prevResult"}},
		{`"prevResult": {"cniVersion": "1.1.0", "interfaces": [null]}`, 7, []string{"prevResult: interfaces: entry 0: expected an object, got null"}},
		{`"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.1/24"}, null]}`, 7, []string{"ips: entry 1"}},
		{`"prevResult": {"cniVersion": "1.1.0", "routes": [7]}`, 7, []string{"routes: entry 0"}},
		{`"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.1"}]}`, 7, []string{"prevResult", "10.0.0.1"}},
		{`"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.1/24", "interface": 0}]}`, 7, []string{"ips: entry 0: interface 0 is none of the 0 interfaces"}},
	} {
		t.Run(c.members, func(t *testing.T) {
			_, err := readConfig([]byte(`{"cniVersion": "1.1.0", "name": "net", "type": "netio-cni", ` + c.members + `}`))
			if c.code == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := err.(*types.Error)
			if !ok || e.Code != c.code {
				t.Fatalf("error %v, want code %d", err, c.code)
			}
			for _, s := range append(c.says, "network configuration: ") {
				if !strings.Contains(e.Msg, s) {
					t.Errorf("error does not say %q: %s", s, e.Msg)
				}
			}
		})
	}
	for _, notObject := range []string{"", "[]", "5", "{"} {
		if _, err := readConfig([]byte(notObject)); err == nil || err.(*types.Error).Code != 6 {
			t.Errorf("%q: %v", notObject, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	for _, read := range []func([]byte) (*config, error){readConfig, readDelConfig} {
		c, err := read([]byte(`{"cniVersion": "1.1.0", "name": "net", "agentSocket": null, "mtu": null}`))
		if err != nil {
			t.Fatal(err)
		}
		if c.network != "net" || c.socket != DefaultAgentSocket || c.timeout != DefaultTimeout || c.stateDir != "/var/lib/netio" || c.mtu != 0 || c.hasValid {
			t.Errorf("%+v", c)
		}
	}
}
