// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"netio.dev/netio/pkg/agent/kubetest"
)

// patience bounds what an API server of a test may take.
const patience = time.Minute

// TestRun: controllers start when the CRDs are there, one operator at a time works,
// and the next one takes over when it ends.
func TestRun(t *testing.T) {
	apiserver := kubetest.APIServer(t)
	c := kubetest.Client(t, apiserver)
	started := make(chan string, 10)
	run := func(name, health string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Options{
				Config: apiserver, Version: "v1", LeaderElect: true, Namespace: "kube-system", Health: health,
				Controllers: []Controller{{Name: "test", Register: func(manager.Manager) error { started <- name; return nil }}},
			})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("operator %s: %v", name, err)
			}
		}
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-started:
			if got != want {
				t.Errorf("controllers of operator %s start, expected %s", got, want)
			}
		case <-time.After(patience):
			t.Fatal("no controller starts")
		}
	}

	health := freeAddress(t)
	stop := run("first", health)
	awaitAnswer(t, "http://"+health+"/readyz/beginning", http.StatusInternalServerError)
	awaitAnswer(t, "http://"+health+"/healthz", http.StatusOK)
	kubetest.InstallCRDs(t, apiserver)
	expect("first")
	awaitAnswer(t, "http://"+health+"/readyz/beginning", http.StatusOK)

	stopSecond := run("second", "")
	stop()
	expect("second")
	lease := &coordinationv1.Lease{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: LeaseName}, lease); err != nil {
		t.Error(err)
	}
	stopSecond()
}

func TestNoAddress(t *testing.T) {
	apiserver := kubetest.APIServer(t)
	err := Run(t.Context(), Options{Config: apiserver, Health: "nowhere"})
	if err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("error %v", err)
	}
}

// freeAddress is one at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func awaitAnswer(t *testing.T, url string, want int) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		r, err := http.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		r.Body.Close()
		if r.StatusCode == want {
			return
		}
		last = fmt.Sprint(r.StatusCode)
	}
	t.Fatalf("%s: %s, expected %d", url, last, want)
}
