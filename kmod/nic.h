/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A port that is a network card: with a driver of its own (driver.c), or any
 * other one (adapter.c). rtnl is held unless it says otherwise.
 */
#ifndef NETIO_NIC_H
#define NETIO_NIC_H

#include <net/netio.h>
#include <net/sock.h>

#include "iface.h"
#include "steer.h"

struct netio_hop;

/* Packet on its way from nbufs, told by its first one. */
struct netio_nic_link {
	u32 next;	/* nbuf, or NETIO_NIC_LAST */
	u32 bytes;	/* of the whole packet */
};

#define NETIO_NIC_LAST	(~0U)

struct netio_nic {
	struct netio_iface iface;
	struct netio_instance *inst;
	struct net_device *dev;
	const struct netio_nic_ops *driver;	/* NULL: the generic adapter */
	struct netio_steer __rcu *steer;
	struct netio_hop __percpu *hops;
	struct netio_nic_link *links;	/* of each nbuf that a driver sends */
	/*
	 * To which packets are charged that are on their way out, until the
	 * last has left: they may outlive the port, whom sk_user_data names.
	 */
	struct sock *sk;
	bool live;		/* may be sent to */
	struct list_head node;	/* of all NICs */
};

static inline struct netio_nic *netio_nic_of(struct netio_iface *iface)
{
	return container_of(iface, struct netio_nic, iface);
}

/*
 * Makes an interface a port of inst. Errors as of NETIO_IOC_ADD_NIC; the port's
 * number is *port.
 */
int netio_nic_add(struct netio_instance *inst, int ifindex,
		  const struct netio_iface_choice *c, u32 *port);

/* Changes what a NIC's port receives. Errors as of NETIO_IOC_STEER. */
int netio_nic_steer(struct netio_iface *iface, u32 op,
		    const struct netio_prefix *p, u32 count);

/*
 * Sends a packet of n nbufs that the device has taken, if its port has a
 * driver for that: 1: done. 0: it has to be sent as an skb. -ENOBUFS: it has to be
 * dropped. *iface is the port in the first and last case. Softirqs are off.
 */
int netio_nic_send(struct netio_lane *lane, const u32 *idx, u32 n,
		   struct netio_iface **iface);

/*
 * The link-layer header for a packet to the next hop on its way. l3 has len
 * bytes, the IP header at least. False: there is none, or not yet. Softirqs off.
 */
bool netio_nic_header(struct netio_nic *nic, const u8 *l3, u32 len,
		      struct ethhdr *l2);

/* Ends the port that an interface is, if it is one. */
void netio_nic_forget(struct net_device *dev);

/* adapter.c: the receive hook of a NIC without a driver of ours. */
int netio_adapter_start(struct netio_nic *nic);
void netio_adapter_stop(struct netio_nic *nic);

/* driver.c: the driver of an interface, or NULL. */
const struct netio_nic_ops *netio_driver_of(struct net_device *dev);

int netio_nics_init(void);
void netio_nics_exit(void);

#endif /* NETIO_NIC_H */
