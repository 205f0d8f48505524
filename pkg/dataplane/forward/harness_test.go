// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/netip"

	"netio.dev/netio/pkg/dataplane/packet"
)

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }
