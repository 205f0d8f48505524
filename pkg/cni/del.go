// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/pkg/cni/pending"
)

func (p *plugin) del(ctx context.Context, args *skel.CmdArgs) error {
	c, err := readDelConfig(args.StdinData)
	if err != nil {
		return err
	}
	id, err := attachmentID(c.network, args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	a, err := c.connect(ctx)
	if err != nil {
		return c.promiseDel(id, args.Netns, err)
	}
	defer a.close()
	_, err = a.Del(ctx, &agentv1.DelRequest{Id: id, Netns: args.Netns})
	switch {
	case err == nil:
		// An older promise is kept by this.
		_ = pending.Remove(pending.Dir(c.stateDir), record(id, ""))
		return nil
	case away(err):
		return c.promiseDel(id, args.Netns, c.rpcError(err))
	}
	return c.rpcError(err)
}

// promiseDel leaves a deletion to the agent, which is away for the given reason.
func (c *config) promiseDel(id *agentv1.AttachmentID, netns string, reason error) error {
	if err := c.promise(record(id, netns)); err != nil {
		return fail(types.ErrTryAgainLater, "%v", errors.Join(reason, err))
	}
	return nil
}
