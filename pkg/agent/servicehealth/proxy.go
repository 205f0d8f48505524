// SPDX-License-Identifier: Apache-2.0

package servicehealth

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Where kube-proxy answers by default: load balancers ask at the first whether the
// node takes connections at all (externalTrafficPolicy Cluster), people at the
// second which proxy there is.
const (
	ProxyHealthAddress = ":10256"
	ProxyModeAddress   = "127.0.0.1:10249"
	// ProxyMode is the answer.
	ProxyMode = "netio"
)

// Proxy answers in kube-proxy's place, as it does.
type Proxy struct {
	healthy func() bool
	last    atomic.Int64 // when the node was healthy, Unix time in ns
}

// NewProxy makes a Proxy that asks healthy whether the node serves.
func NewProxy(healthy func() bool) *Proxy { return &Proxy{healthy: healthy} }

// Run serves until ctx ends. A port that is taken, as by a kube-proxy that runs
// beside NetIO, is tried again now and then.
func (p *Proxy) Run(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for address, path := range map[string]string{ProxyHealthAddress: "/healthz", ProxyModeAddress: "/proxyMode"} {
		serving.Go(func() { p.serve(ctx, address, path) })
	}
}

func (p *Proxy) serve(ctx context.Context, address, path string) {
	mux := http.NewServeMux()
	mux.Handle(path, p)
	told := false
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			server := &http.Server{ReadHeaderTimeout: headerTime, Handler: mux}
			stop := context.AfterFunc(ctx, func() { _ = server.Close() })
			_ = server.Serve(listener) // it ends by Close
			stop()
		} else if !told && ctx.Err() == nil {
			told = true
			slog.Info("somebody else answers in kube-proxy's place", "address", address, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// ServeHTTP answers /healthz, 200 if the node serves and 503 if not, and /proxyMode.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Path == "/proxyMode" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, ProxyMode)
		return
	}
	now := time.Now()
	w.Header().Set("Content-Type", "application/json")
	if p.healthy() {
		p.last.Store(now.UnixNano())
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"lastUpdated": time.Unix(0, p.last.Load()).UTC(), "currentTime": now.UTC(), "nodeEligible": true,
	})
}
