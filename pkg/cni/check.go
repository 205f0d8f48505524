// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

func (p *plugin) check(ctx context.Context, args *skel.CmdArgs) error {
	c, err := readConfig(args.StdinData)
	if err != nil {
		return err
	}
	id, err := attachmentID(c.network, args)
	if err != nil {
		return err
	}
	if c.prevResult == nil {
		return fail(types.ErrInvalidNetworkConfig, "network configuration: prevResult: CHECK needs the result of ADD")
	}
	index := interfaceOf(c.prevResult, args.IfName)
	if index < 0 {
		return fail(types.ErrInvalidNetworkConfig, "network configuration: prevResult: interfaces: %s of the container is missing", args.IfName)
	}
	return c.call(ctx, func(ctx context.Context, a *agent) error {
		_, err := a.Check(ctx, &agentv1.CheckRequest{
			Id:        id,
			Netns:     args.Netns,
			Addresses: addresses(c.prevResult, index),
		})
		if _, ok := agentCode(status.Convert(err)); !ok && status.Code(err) == codes.NotFound {
			return fail(types.ErrUnknownContainer, "netio-agent: %s", status.Convert(err).Message())
		}
		return err
	})
}

// status tells whether ADD would work. Without the agent it would not, but the
// forwarder goes on without the agent: 50 and not 51, unless the agent says so.
func (p *plugin) status(ctx context.Context, args *skel.CmdArgs) error {
	c, err := readConfig(args.StdinData)
	if err != nil {
		return err
	}
	err = c.call(ctx, func(ctx context.Context, a *agent) error {
		_, err := a.Status(ctx, &agentv1.StatusRequest{Network: c.network})
		return err
	})
	if e, ok := err.(*types.Error); ok && (e.Code == types.ErrTryAgainLater || e.Code == types.ErrInternal) {
		e.Code = types.ErrPluginNotAvailable
	}
	return err
}

func (p *plugin) gc(ctx context.Context, args *skel.CmdArgs) error {
	c, err := readConfig(args.StdinData)
	if err != nil {
		return err
	}
	// An absent list is not an empty one: it would cut off every container.
	if !c.hasValid {
		return fail(types.ErrInvalidNetworkConfig, "network configuration: cni.dev/valid-attachments: GC needs the list; an empty one removes all attachments of %s", c.network)
	}
	req := &agentv1.GCRequest{Network: c.network}
	for _, v := range c.valid {
		req.Valid = append(req.Valid, &agentv1.AttachmentID{Network: c.network, ContainerId: v.ContainerID, Ifname: v.IfName})
	}
	return c.call(ctx, func(ctx context.Context, a *agent) error {
		_, err := a.GC(ctx, req)
		return err
	})
}

// call makes one call that leaves nothing behind when it fails.
func (c *config) call(ctx context.Context, f func(context.Context, *agent) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	a, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer a.close()
	err = f(ctx, a)
	if _, ok := err.(*types.Error); ok || err == nil {
		return err
	}
	return c.rpcError(err)
}
