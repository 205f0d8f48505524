// SPDX-License-Identifier: Apache-2.0

// Package servicehealth answers load balancers that ask at a service's
// healthCheckNodePort whether the node has endpoints of the service: 200 if it has,
// 503 if not. The answer's body and headers are those of kube-proxy.
package servicehealth

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"netio.dev/netio/pkg/service"
)

const (
	// headerTime is how long a load balancer may take to ask.
	headerTime = 5 * time.Second
	// again is when a port is tried again that could not be had.
	again = 5 * time.Second
)

// Server listens at the ports of health checks. Its methods may be called
// concurrently.
type Server struct {
	healthy func() bool
	report  func(error)

	mu    sync.Mutex
	want  []service.HealthCheck
	ports map[uint16]*port
	poke  chan struct{}
}

// port is one that is listened at.
type port struct {
	check  atomic.Pointer[service.HealthCheck]
	server *http.Server
}

// New makes a Server that asks healthy whether the node serves at all, and reports
// the ports that it could not have, nil when it has all.
func New(healthy func() bool, report func(error)) *Server {
	return &Server{healthy: healthy, report: report, ports: map[uint16]*port{}, poke: make(chan struct{}, 1)}
}

// Want changes which checks there are, sorted by port.
func (s *Server) Want(checks []service.HealthCheck) {
	s.mu.Lock()
	s.want = checks
	s.mu.Unlock()
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() {
		for _, p := range s.ports {
			_ = p.server.Close()
		}
	}()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poke:
		case <-retry:
		}
		s.mu.Lock()
		want := s.want
		s.mu.Unlock()
		err := s.reconcile(ctx, want, &serving)
		s.report(err)
		if retry = nil; err != nil {
			retry = time.After(again)
		}
	}
}

// reconcile opens and closes ports; the first error is returned.
func (s *Server) reconcile(ctx context.Context, want []service.HealthCheck, serving *sync.WaitGroup) (failed error) {
	wanted := make(map[uint16]bool, len(want))
	for i := range want {
		check := &want[i]
		if wanted[check.Port] {
			continue // the API server gives a port to one service alone
		}
		wanted[check.Port] = true
		if p := s.ports[check.Port]; p != nil {
			p.check.Store(check)
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprint(":", check.Port))
		if err != nil {
			if failed == nil {
				failed = fmt.Errorf("healthCheckNodePort %d of service %s/%s: %w; end what listens there, or make the service anew for another port", check.Port, check.Namespace, check.Name, err)
			}
			continue
		}
		p := &port{}
		p.check.Store(check)
		p.server = &http.Server{ReadHeaderTimeout: headerTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.answer(w, p.check.Load()) })}
		s.ports[check.Port] = p
		serving.Go(func() { _ = p.server.Serve(listener) }) // it ends by Close
	}
	for number, p := range s.ports {
		if !wanted[number] {
			_ = p.server.Close()
			delete(s.ports, number)
		}
	}
	return failed
}

func (s *Server) answer(w http.ResponseWriter, check *service.HealthCheck) {
	healthy := s.healthy()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(check.Local))
	if check.Local == 0 || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": check.Namespace, "name": check.Name},
		"localEndpoints":      check.Local,
		"serviceProxyHealthy": healthy,
	})
}
