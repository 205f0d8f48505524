// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/topology"
)

// uplink is a node's interface to the fabric.
const uplink = "eth0"

// uplinkPatience is how long the supervisor may take to connect a node.
const uplinkPatience = 20 * time.Second

// configureNetwork waits for the uplink, and gives the node its addresses and a
// default route. Forwarding is for the network plugin to turn on.
func (m *machine) configureNetwork() error {
	here, err := netlab.Here()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := here.Up("lo"); err != nil {
		return err
	}
	if err := awaitLink(here, uplink); err != nil {
		return err
	}
	for _, a := range m.Addrs {
		if err := here.Up(uplink, topology.Prefix(a)); err != nil {
			return err
		}
		gateway := topology.Gateway(a)
		if err := here.Route(netlab.Default(gateway), gateway, uplink); err != nil {
			return err
		}
	}
	return nil
}

func awaitLink(ns *netlab.Namespace, name string) error {
	done := make(chan struct{})
	defer close(done)
	// Subscribed first: what comes after the look is an update.
	updates := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	var missing netlink.LinkNotFoundError
	if _, err := ns.Netlink.LinkByName(name); !errors.As(err, &missing) {
		return err
	}
	late := time.After(uplinkPatience)
	for {
		select {
		case u := <-updates:
			if u.Attrs().Name == name {
				return nil
			}
		case <-late:
			return fmt.Errorf("there is no interface %s after %v", name, uplinkPatience)
		}
	}
}
