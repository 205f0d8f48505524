// SPDX-License-Identifier: Apache-2.0

// Package standalone is the agent's source on a host without Kubernetes: its
// policies come from a folder of manifests, and what it knows of pods is what the
// container runtime tells in CNI calls.
package standalone

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/ipam"
	"netio.dev/netio/pkg/policy/manifest"
)

// KeptFile, in the state directory, has the last good manifests.
const KeptFile = "manifests.json"

// Source is a folder of manifests.
type Source struct {
	// ManifestDir is that of package manifest.
	ManifestDir string
}

var _ node.Source = Source{}

// Mode implements node.Source.
func (Source) Mode() string { return "standalone" }

// Example implements node.Source.
func (Source) Example() string { return config.Example }

// Configure implements node.Source: all is in the file.
func (Source) Configure(_ context.Context, file string, data []byte, _ *problem.List) (*config.Config, error) {
	return config.Parse(file, data)
}

// checkManifestDir refuses to start without the folder, unless the last good
// policies are known: a misspelt name must not leave pods unprotected.
func (s Source) checkManifestDir(stateDir string) error {
	st, err := os.Stat(s.ManifestDir)
	if err == nil && !st.IsDir() {
		return fmt.Errorf("manifests: %s is not a folder; name the folder that holds the policies", s.ManifestDir)
	}
	if err != nil {
		if _, kept := os.Stat(filepath.Join(stateDir, KeptFile)); kept == nil {
			return nil
		}
		return fmt.Errorf("manifests: %w; make the folder, empty if there are no policies", err)
	}
	return nil
}

// Follow implements node.Source: it reads the policies and follows their changes.
// It fails if there is no folder.
func (s Source) Follow(ctx context.Context, c *config.Config, notify func(node.Facts), problems *problem.List) error {
	if err := s.checkManifestDir(c.StateDir); err != nil {
		return err
	}
	err := manifest.Watch(ctx, s.ManifestDir, func(set manifest.Set, wrong []manifest.Problem) {
		problems.Replace("manifests", manifestProblems(wrong)...)
		notify(node.Facts{Policies: set.Policies, ClusterPolicies: set.ClusterPolicies})
	}, manifest.KeepIn(filepath.Join(c.StateDir, KeptFile)))
	if ctx.Err() == nil {
		problems.Report("manifests", fmt.Errorf("changes are not followed any more: %w; restart the agent", err))
	}
	<-ctx.Done()
	return nil
}

// Publish implements node.Source: there is nobody to tell.
func (Source) Publish(context.Context, func() node.Report, <-chan struct{}, <-chan struct{}) {}

// Blocks implements node.Source: there are no pools but podCIDRs.
func (Source) Blocks() []ipam.Block { return nil }

// Identify implements node.Source: the request has all that is known.
func (Source) Identify(context.Context, *attach.Request) error { return nil }

func manifestProblems(wrong []manifest.Problem) []problem.Problem {
	var out []problem.Problem
	for _, p := range wrong {
		source := p.File
		for _, place := range []int{p.Line, p.Column} {
			if place > 0 {
				source += fmt.Sprint(":", place)
			}
		}
		message := strings.TrimPrefix(p.Error(), source+": ")
		out = append(out, problem.Problem{Source: source, Message: message})
	}
	return out
}
