// SPDX-License-Identifier: Apache-2.0

package servicehealth

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"netio.dev/netio/pkg/service"
)

// free is a port that nobody listens at.
func free(t *testing.T) (uint16, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	return uint16(l.Addr().(*net.TCPAddr).Port), l
}

// TestServer: ports come and go with the checks, answer as kube-proxy's do, and one
// that is taken is reported until it is free.
func TestServer(t *testing.T) {
	var healthy atomic.Bool
	healthy.Store(true)
	reports := make(chan error, 100)
	s := New(healthy.Load, func(err error) { reports <- err })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	defer func() { cancel(); <-done }()

	one, l := free(t)
	l.Close()
	get := func(port uint16) (int, string) {
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(fmt.Sprint("http://127.0.0.1:", port, "/healthz"))
		if err != nil {
			return 0, err.Error()
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return 0, err.Error()
		}
		return answer.StatusCode, strings.TrimSpace(string(body)) + " " + answer.Header.Get("X-Load-Balancing-Endpoint-Weight")
	}
	want := func(local int, code int, text string) {
		t.Helper()
		s.Want([]service.HealthCheck{{Namespace: "shop", Name: "web", Port: one, Local: local}})
		if err := <-reports; err != nil {
			t.Fatal(err)
		}
		if got, body := get(one); got != code || body != text {
			t.Errorf("%d endpoints: %d, %s", local, got, body)
		}
	}
	want(2, 200, `{"localEndpoints":2,"service":{"name":"web","namespace":"shop"},"serviceProxyHealthy":true} 2`)
	want(0, 503, `{"localEndpoints":0,"service":{"name":"web","namespace":"shop"},"serviceProxyHealthy":true} 0`)
	healthy.Store(false)
	want(1, 503, `{"localEndpoints":1,"service":{"name":"web","namespace":"shop"},"serviceProxyHealthy":false} 1`)

	taken, l := free(t)
	s.Want([]service.HealthCheck{{Namespace: "shop", Name: "other", Port: taken, Local: 1}})
	if err := <-reports; err == nil || !strings.Contains(err.Error(), "service shop/other") {
		t.Errorf("a port that is taken: %v", err)
	}
	if code, text := get(one); code != 0 {
		t.Errorf("a port that is gone answers %d, %s", code, text)
	}
	l.Close()
	select {
	case err := <-reports:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it is not tried again")
	}
}
