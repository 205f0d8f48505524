// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"netio.dev/netio/pkg/agent/config"
)

func TestAgentConfigIsValid(t *testing.T) {
	text, err := configs.ReadFile("config/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.ParseNode("agent.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if c.InstallCNI == nil {
		t.Errorf("%+v", c)
	}
}
