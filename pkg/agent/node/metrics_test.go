// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the agent counts is served where its configuration says. The forwarder of
// these tests has no Status, which is as good as none.
func TestMetrics(t *testing.T) {
	b := newBed(t)
	// An address of this process's own, as tests run beside each other.
	address := fmt.Sprintf("127.%d.%d.1:9617", 1+os.Getpid()>>8%250, os.Getpid()%256)
	b.config("metrics: {address: '" + address + "'}")
	b.start()
	get := func(path string) (string, error) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	b.until("ready", func() bool {
		body, err := get("/readyz")
		return err == nil && body == "ok\n"
	})
	b.add("web", nil)
	b.write(filepath.Join(b.source.ManifestDir, "web.yaml"), webPolicy)
	b.until("counted", func() bool {
		body, err := get("/metrics")
		return err == nil && !strings.Contains(body, "\nnetio_policy_latency_seconds_count 0\n")
	})
	body, err := get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`netio_build_info{goversion="go`, "netio_configuration_in_force 1", "netio_forwarder_up 0", "netio_endpoints 1", "netio_policies 1",
		`netio_cni_duration_seconds_count{operation="add",result="ok"} 1`, `netio_pool_addresses_used{pool="10.244.0.0/24"} 1`,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}
