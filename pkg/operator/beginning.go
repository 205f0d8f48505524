// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"netio.dev/netio/api/v1alpha1"
)

// ErrNoCRDs: the cluster does not have all of NetIO's kinds.
var ErrNoCRDs = errors.New("NetIO's CustomResourceDefinitions are not installed")

// again is how soon the cluster is asked again for what it lacks.
const again = time.Second

// beginning starts the controllers when this operator is the one that works and
// the cluster has what they work on.
type beginning struct {
	manager     manager.Manager
	controllers []Controller
	config      *rest.Config

	mu  sync.Mutex
	err error // what it waits for
}

// Start implements manager.Runnable.
func (b *beginning) Start(ctx context.Context) error {
	d, err := discovery.NewDiscoveryClientForConfig(b.config)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	for {
		err := missing(d, b.manager.GetScheme())
		b.wait(err)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
	for _, c := range b.controllers {
		if err := c.Register(b.manager); err != nil {
			return fmt.Errorf("start controller %s: %w", c.Name, err)
		}
		slog.Info("controller starts", "controller", c.Name)
	}
	return nil
}

// waits is why the controllers do not run though they should, nil if they do or
// should not.
func (b *beginning) waits() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// wait notes what it waits for, and tells it once.
func (b *beginning) wait(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && (b.err == nil || b.err.Error() != err.Error()) {
		slog.Warn("the controllers wait", "error", err)
	}
	b.err = err
}

// missing tells which of NetIO's kinds the API server does not serve.
func missing(d discovery.DiscoveryInterface, scheme *runtime.Scheme) error {
	list, err := d.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if apierrors.IsNotFound(err) {
		list, err = &metav1.APIResourceList{}, nil
	}
	if err != nil {
		return fmt.Errorf("ask the API server for its kinds: %w", err)
	}
	var kinds []string
	for kind := range scheme.KnownTypes(v1alpha1.GroupVersion) {
		o, err := scheme.New(v1alpha1.GroupVersion.WithKind(kind))
		if err != nil {
			return fmt.Errorf("make a %s: %w", kind, err)
		}
		if _, ok := o.(client.Object); !ok {
			continue // a list
		}
		if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind }) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) > 0 {
		slices.Sort(kinds)
		return fmt.Errorf("%w: the cluster has no %s; kubectl apply -f config/crd", ErrNoCRDs, strings.Join(kinds, ", "))
	}
	return nil
}
