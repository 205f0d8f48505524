// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"google.golang.org/grpc/codes"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// chainedPlugin is a plugin that hands prevResult on, as tuning does.
const chainedPlugin = "chained"

func chainedMain() {
	data, err := io.ReadAll(os.Stdin)
	var conf struct {
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err == nil {
		err = json.Unmarshal(data, &conf)
	}
	if err != nil {
		os.Exit(1)
	}
	switch os.Getenv("CNI_COMMAND") {
	case "VERSION":
		fmt.Println(`{"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}`)
	case "ADD":
		os.Stdout.Write(conf.PrevResult)
	}
	os.Exit(0)
}

// The plugin as a container runtime runs it: a conflist, libcni with its
// cache, another plugin behind, and all operations of 1.1.0.
func TestThroughLibcni(t *testing.T) {
	// The race detector has the chained plugin sleep for a second at its end.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	ctx := context.Background()
	b := newBed(t)
	a := startAgent(b)
	list, err := libcni.ConfListFromBytes([]byte(fmt.Sprintf(`{
		"cniVersion": "1.1.0",
		"cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
		"name": "net",
		"plugins": [
			{"type": "netio-cni", "agentSocket": %q, "stateDir": %q, "mtu": 1450, "capabilities": {"ips": true, "dns": true}},
			{"type": %q, "capabilities": {"portMappings": true}}
		]}`, b.socket, b.stateDir, chainedPlugin)))
	if err != nil {
		t.Fatal(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{binDir()}, filepath.Join(b.dir, "cache"), nil)
	rt := func(container string) *libcni.RuntimeConf {
		return &libcni.RuntimeConf{
			ContainerID: container, NetNS: netnsNo, IfName: "eth0",
			Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", container}},
			CapabilityArgs: map[string]any{
				"ips":          []string{"10.244.0.5"},
				"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80}},
			},
		}
	}
	if _, err := cni.ValidateNetworkList(ctx, list); err != nil {
		t.Fatal(err)
	}
	if err := cni.GetStatusNetworkList(ctx, list); err != nil {
		t.Fatal(err)
	}
	a.was("Status")

	for _, c := range []string{"one", "two"} {
		result, err := cni.AddNetworkList(ctx, list, rt(c))
		if err != nil {
			t.Fatal(err)
		}
		r, err := types100.GetResult(result)
		if err != nil || len(r.Interfaces) != 1 || r.Interfaces[0].Sandbox != netnsNo || len(r.IPs) != 2 || len(r.Routes) != 3 {
			t.Fatalf("result %+v, %v", r, err)
		}
		a.was("Add net/" + c + "/eth0")
		a.asked("Add", &agentv1.AddRequest{
			Id: &agentv1.AttachmentID{Network: "net", ContainerId: c, Ifname: "eth0"}, Netns: netnsNo,
			PodNamespace: "default", PodName: c, RequestedIps: []string{"10.244.0.5"}, Mtu: 1450,
		})
	}
	if err := cni.CheckNetworkList(ctx, list, rt("one")); err != nil {
		t.Fatal(err)
	}
	a.was("Check net/one/eth0")

	// GC removes what the runtime's cache has beyond the list, then asks us.
	if err := cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "two", IfName: "eth0"}}}); err != nil {
		t.Fatal(err)
	}
	a.was("Del net/one/eth0", "GC")
	a.asked("GC", &agentv1.GCRequest{Network: "net", Valid: []*agentv1.AttachmentID{{Network: "net", ContainerId: "two", Ifname: "eth0"}}})
	for range 2 {
		if err := cni.DelNetworkList(ctx, list, rt("two")); err != nil {
			t.Fatal(err)
		}
	}
	a.was("Del net/two/eth0", "Del net/two/eth0")

	a.fails("Status", cniError(codes.Unavailable, 51, "the forwarder is away"))
	err = cni.GetStatusNetworkList(ctx, list)
	if e, ok := err.(*types.Error); !ok || e.Code != 51 {
		t.Errorf("status: %v", err)
	}
	a.server.Stop()
	_, err = cni.AddNetworkList(ctx, list, rt("three"))
	var e *types.Error
	if !errors.As(err, &e) || e.Code != 11 {
		t.Errorf("add without agent: %v", err)
	}
	if err := cni.DelNetworkList(ctx, list, rt("three")); err != nil {
		t.Errorf("delete without agent: %v", err)
	}
	b.hasPending("net/three/eth0 " + netnsNo)
}
