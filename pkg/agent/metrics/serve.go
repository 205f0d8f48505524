// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// atATime bounds the scrapes that are under way; more are refused (503).
const atATime = 3

// again is how soon an address is tried again that cannot be had.
const again = 10 * time.Second

// NewHandler serves /metrics of the collectors and of this process, /healthz, which
// answers as long as the agent lives, and /readyz, which fails with ready's error
// while a pod that is added now would lack connectivity.
func NewHandler(ready func() error, cs ...prometheus.Collector) http.Handler {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(cs...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: atATime,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, ready()) })
	return mux
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	text := "ok"
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = err.Error()
	}
	_, _ = io.WriteString(w, text+"\n") // who asked has gone
}

// Serve answers at the address until ctx ends. While the address cannot be had it
// reports why, and tries again; report gets nil when it serves.
func Serve(ctx context.Context, address string, h http.Handler, report func(error)) {
	for ctx.Err() == nil {
		err := serve(ctx, address, h, func() { report(nil) })
		if ctx.Err() != nil {
			return
		}
		report(fmt.Errorf("serve %s: %w; free the address or choose another one as metrics.address", address, err))
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

func serve(ctx context.Context, address string, h http.Handler, begun func()) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	begun()
	slog.Info("metrics are served", "address", l.Addr())
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
