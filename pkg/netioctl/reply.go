// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"io"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

const tcpAck = 1 << 4

// replyOf makes a described packet the answer of its connection, and returns the port
// that brings answers. Without a source port it is that of the connection which had
// a packet last.
func replyOf(ctx context.Context, fw *forwarder, d *dataplanev1.PacketDescription) (port string, err error) {
	t := d.GetTuple()
	f, err := connectionOf(ctx, fw, t)
	if err != nil {
		return "", err
	}
	if f == nil {
		return "", fmt.Errorf("no %s connection from %s to %s goes through this forwarder; netioctl flows lists them", protocolOf(t), source(t), destination(t))
	}
	d.Tuple = f.GetReply()
	switch {
	case isICMP(t.GetProtocol()):
		d.IcmpType, d.IcmpCode = d.Tuple.GetDstPort()>>8, d.Tuple.GetDstPort()&0xff
	case t.GetProtocol() == protoTCP && d.TcpFlags == 0:
		d.TcpFlags = tcpAck
	}
	return f.GetOutPort(), nil
}

// connectionOf finds the connection that a packet belongs to, nil if there is none.
func connectionOf(ctx context.Context, fw *forwarder, t *dataplanev1.Tuple) (*dataplanev1.Flow, error) {
	stream, err := fw.ListFlows(ctx, &dataplanev1.ListFlowsRequest{Filter: &dataplanev1.Filter{Address: t.GetSrc(), Protocol: t.GetProtocol()}})
	if err != nil {
		return nil, err
	}
	var found *dataplanev1.Flow
	for {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		o := f.GetOriginal()
		if o.GetSrc() != t.GetSrc() || o.GetDst() != t.GetDst() || o.GetDstPort() != t.GetDstPort() || t.GetSrcPort() != 0 && o.GetSrcPort() != t.GetSrcPort() {
			continue
		}
		if found == nil || f.GetIdleNano() < found.GetIdleNano() {
			found = f
		}
	}
}
