/* SPDX-License-Identifier: GPL-2.0 */
/*
 * NetIO for drivers of network cards (paper, section 6): packets are received
 * into nbufs and sent from them.
 *
 *	driver				netio.ko
 *	netio_nic_register()
 *	    start() <------------------ the NIC becomes a port (NETIO_IOC_ADD_NIC)
 *	netio_nic_take() -------------> empty nbufs, for the receive queue
 *	netio_nic_receive() ----------> a packet, in one or several of them
 *	netio_nic_receive_end() ------> the process is woken, its OutQ serviced
 *	    send() <------------------- a packet in nbufs, from an OutQ
 *	    send_skb() <--------------- a packet that came parked
 *	    flush() <------------------ the last one of a run was that
 *	netio_nic_sent() -------------> the nbufs are free
 *	    stop() <------------------- the NIC is no port any more
 *	netio_nic_unregister()
 *
 * The driver's net_device is the host's as that of any driver. What NetIO
 * does not want the driver gives to the host, in an skb of its own: an nbuf can
 * be written by a process at any time, so nothing in the kernel may believe
 * what is in it, not even twice the same.
 *
 * An nbuf is the driver's from netio_nic_take() to netio_nic_receive() or
 * netio_nic_put(), and from send() to netio_nic_sent(). It may be the target or
 * source of DMA in that time and in no other.
 */
#ifndef _NET_NETIO_H
#define _NET_NETIO_H

#include <linux/if_ether.h>
#include <linux/netdevice.h>
#include <linux/netio.h>

struct netio_nic;

/* Most nbufs of one packet. */
#define NETIO_FRAME_PIECES	64

/**
 * struct netio_piece - what one nbuf has of a packet
 * @index: of the nbuf
 * @off: of the first byte, from netio_nic_nbuf()
 * @len: bytes
 */
struct netio_piece {
	u32 index;
	u16 off;
	u16 len;
};

/**
 * struct netio_frame - a packet in nbufs
 * @pieces: in order
 * @count: of them, 1 to NETIO_FRAME_PIECES
 * @len: bytes of the packet
 * @flags: NETIO_NB_CSUM_PARTIAL or NETIO_NB_CSUM_VALID, or 0
 * @csum_start: with NETIO_NB_CSUM_PARTIAL, from the first byte of @pieces
 * @csum_offset: from @csum_start
 * @gso_size: 0 without GSO; never when sending
 * @gso_type: NETIO_GSO_*
 * @tstamp: when receiving, CLOCK_MONOTONIC of the batch
 * @l2: when sending, the Ethernet header, which is not in @pieces. When
 *	receiving it is there, in the first of them.
 */
struct netio_frame {
	struct netio_piece *pieces;
	u32 count;
	u32 len;
	u16 flags;
	u16 csum_start;
	u16 csum_offset;
	u16 gso_size;
	u8 gso_type;
	u64 tstamp;
	struct ethhdr l2;
};

/**
 * struct netio_nic_ops - what a driver does for NetIO
 * @start: The interface is port @nic from now on. Its receive queues are to be
 *	filled with nbufs. rtnl is held. An error: it becomes none.
 * @stop: Gives all nbufs back and forgets @nic. rtnl is held.
 * @send: Sends a packet, without a checksum to complete unless the interface has
 *	NETIF_F_HW_CSUM. 0: the nbufs are the driver's until netio_nic_sent().
 *	-ENOBUFS: it has no room. Softirqs are off; locks are held that do not allow
 *	packets to be received. Between @start and @stop.
 * @send_skb: Likewise with an skb that has its Ethernet header, within the
 *	interface's features. On error it is the caller's still.
 * @flush: Sends what is queued up. Softirqs are off. Also after @stop.
 */
struct netio_nic_ops {
	int (*start)(struct net_device *dev, struct netio_nic *nic);
	void (*stop)(struct net_device *dev);
	int (*send)(struct net_device *dev, const struct netio_frame *f);
	int (*send_skb)(struct net_device *dev, struct sk_buff *skb);
	void (*flush)(struct net_device *dev);
};

/* What netio_nic_receive() has done. */
enum netio_nic_verdict {
	NETIO_NIC_TAKEN,	/* the nbufs are no longer the driver's */
	NETIO_NIC_HOST,		/* the packet is the host's, the nbufs the driver's */
	NETIO_NIC_DROPPED,	/* it is counted; the nbufs are the driver's */
};

int netio_nic_register(struct net_device *dev, const struct netio_nic_ops *ops);
void netio_nic_unregister(struct net_device *dev);

u32 netio_nic_take(struct netio_nic *nic, u32 *index, u32 count);
void netio_nic_put(struct netio_nic *nic, const u32 *index, u32 count);
void *netio_nic_nbuf(struct netio_nic *nic, u32 index);
u32 netio_nic_nbufs(struct netio_nic *nic);

enum netio_nic_verdict netio_nic_receive(struct netio_nic *nic,
					 struct netio_frame *f);
void netio_nic_receive_end(struct netio_nic *nic);
void netio_nic_sent(struct netio_nic *nic, const u32 *first, u32 count);

#endif /* _NET_NETIO_H */
