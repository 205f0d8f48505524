// SPDX-License-Identifier: Apache-2.0

// Package operator does for a cluster what is no single node's business. It is a
// manager of controllers, each a package of its own below this one:
//
//	            ┌ health, metrics
//	Run ── manager ── election ── are the CRDs there? ──> controllers
//
// One operator at a time works, the one that holds the Lease; others wait for it.
package operator

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
)

// DeploymentName is that of the operators, and of their pods by the label
// app.kubernetes.io/name.
const DeploymentName = "netio-operator"

// LeaseName is the Lease of the operator that works.
const LeaseName = "netio-operator"

// stopTime is how long what is under way may take when the operator stops.
const stopTime = 5 * time.Second

// Controller is one of the operator's controllers.
type Controller struct {
	// Name in the log and in metrics.
	Name string
	// Register adds it to the manager, whose scheme has the objects of Kubernetes
	// and NetIO. It is called once, when the cluster has all of NetIO's kinds and
	// this operator is the one that works.
	Register func(manager.Manager) error
}

// Options of the operator.
type Options struct {
	// Config leads to the API server.
	Config  *rest.Config
	Version string
	// LeaderElect: there may be others; Namespace is that of the Lease.
	LeaderElect bool
	Namespace   string
	// Metrics and Health are IP:PORT or :PORT at which they are served, "" for not
	// at all.
	Metrics, Health string
	Controllers     []Controller
	// Watched narrows down which objects of a kind the controllers know.
	Watched map[client.Object]cache.ByObject
}

// Scheme has the kinds of Kubernetes, the network policy API and NetIO.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, networkapi.Install, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("make scheme: %w", err)
		}
	}
	return s, nil
}

// Run is the operator until ctx ends. Errors are those that keep it from starting
// or going on, as when another operator has taken the Lease.
func Run(ctx context.Context, o Options) error {
	s, err := Scheme()
	if err != nil {
		return err
	}
	stop := stopTime
	m, err := ctrl.NewManager(o.Config, ctrl.Options{
		Scheme:           s,
		Cache:            cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: o.Watched},
		LeaderElection:   o.LeaderElect,
		LeaderElectionID: LeaseName, LeaderElectionNamespace: o.Namespace, LeaderElectionReleaseOnCancel: true,
		Metrics:                 metricsserver.Options{BindAddress: orNone(o.Metrics)},
		HealthProbeBindAddress:  orNone(o.Health),
		GracefulShutdownTimeout: &stop,
	})
	if err != nil {
		return fmt.Errorf("reach the API server %s: %w", o.Config.Host, err)
	}
	b := &beginning{manager: m, controllers: o.Controllers, config: o.Config}
	if err := m.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	if err := m.AddReadyzCheck("beginning", func(*http.Request) error { return b.waits() }); err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	if err := m.Add(b); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	slog.Info("netio-operator starts", "version", o.Version, "apiserver", o.Config.Host, "elect", o.LeaderElect)
	if err := m.Start(ctx); err != nil {
		return err
	}
	slog.Info("netio-operator stops")
	return nil
}

// orNone is an address as controller-runtime wants it.
func orNone(address string) string {
	if address == "" {
		return "0"
	}
	return address
}
