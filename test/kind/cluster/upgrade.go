// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"path/filepath"

	"netio.dev/netio/test/kind/artifact"
)

// UpgradeOptions of Upgrade.
type UpgradeOptions struct {
	// Source is the top of NetIO's source tree, NetIO the folder of its programs.
	Source, NetIO string
	Say           func(format string, args ...any)
}

// Upgrade does what a user does to have another version: it gives the nodes the images,
// and calls helm upgrade. It returns when helm does; operator and agents follow.
func (c *Cluster) Upgrade(ctx context.Context, o UpgradeOptions) error {
	lock, err := c.Dir.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	b := artifact.Builder{Dir: c.Dir, Source: o.Source, NetIO: o.NetIO, Say: o.Say}
	if err := b.BuildNetIO(ctx); err != nil {
		return err
	}
	for _, archive := range b.NetIOArchives {
		if err := c.ImportImages(ctx, filepath.Base(archive)); err != nil {
			return err
		}
	}
	if _, err := c.Helm(ctx, "upgrade", Release, filepath.Join(o.Source, "charts/netio"), "--reset-then-reuse-values", "--set", "image.tag="+b.NetIOTag); err != nil {
		return err
	}
	o.Say("NetIO is being replaced by %s", b.NetIOTag)
	return nil
}
