/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * NetIO: the memory that a NetIO device and a user process share.
 *
 * This header is the one definition of the ABI, for the kernel device
 * (/dev/netio, netio.ko) and for the soft device (the same bytes in a memfd,
 * serviced in user space). "Device" below means either of them; "process" is
 * the forwarder that owns the instance. Terms and roles follow A. McRae, "A
 * User Level Networking Infrastructure for Linux", sections 5 and 8.
 *
 * Memory map. Every region begins on a page and no page has two writers,
 * except the nbufs, which belong to one side at a time:
 *
 *   offset        writer    region
 *   0             device    struct netio_area: sizes, offsets, features
 *   dlane_off     device    struct netio_dlane, one page per lane
 *   inq_off       device    InQ of lane 0, InQ of lane 1, ...
 *   port_off      device    struct netio_port[port_max]: queue lengths
 *   plane_off     process   struct netio_plane, one page per lane
 *   outq_off      process   OutQ of lane 0, OutQ of lane 1, ...
 *   nbuf_off      owner     nbuf_count nbufs of NETIO_NBUF_SIZE bytes
 *   area_size               end
 *
 * [0, plane_off) is mapped read-only into the process by the kernel device,
 * [plane_off, area_size) read-write. All words are in host byte order.
 *
 * Queue entry, 32 bits (paper, section 8):
 *
 *    31   30    29......24   23.....................0
 *   +---+------+-----------+-------------------------+
 *   | T | MORE |  action   |        parameter        |
 *   +---+------+-----------+-------------------------+
 *
 * T is the toggle. Position p of a ring (a free-running 32-bit count) lives in
 * slot p mod size and is present when T == NETIO_TOGGLE(p, order): 1 in the
 * first pass, 0 in the second, and so on. The reader never writes to the ring.
 * MORE and action are the paper's 7 action bits: MORE says that the next entry
 * continues this packet. A chain is consecutive entries; there are no links.
 *
 * Barriers. Both rings are published and taken in the same way:
 *
 *   producer                              consumer
 *   (A) fill the nbufs
 *   (B) store entries n-1 .. 1, plain
 *   (C) store entry 0, release    ---->   (D) load entry, acquire; stop at the
 *                                             first one whose toggle is stale
 *                                         (E) read the nbuf
 *                                         (F) store head, release
 *   (G) load head, acquire        <----
 *
 *   C pairs with D: who sees an entry sees the nbuf behind it. Entries of a
 *   batch after the first are ordered by C as well, since the consumer stops
 *   at the unwritten first slot. F pairs with G: slots before head are free.
 *
 * Wake-ups. Who is about to sleep publishes it first; who has published looks
 * after it (store, full barrier, load on both sides: one of them sees the
 * other):
 *
 *   sleeper (InQ: process, OutQ: device)   publisher
 *   (H) ++sleep_seq                        (K) entries as above
 *   (I) full barrier                       (L) full barrier
 *   (J) ring empty? then sleep             (M) sleep_seq != last woken?
 *                                              then wake it, remember it
 *
 *   sleep_seq is a sequence number that is compared with a private copy, so a
 *   sleep is answered by one wake-up and never by two. The process's wake-up of
 *   the device is the KICK ioctl, the device's of the process is poll().
 *
 * Ownership. An nbuf is in one place at any time: in the device, on an InQ, in
 * the process, or on an OutQ. The device keeps the truth privately and checks
 * each index that it reads against it; a wrong one is counted (bad_entry) and
 * ignored. Since all nbufs fit on an InQ beside NETIO_EVENT_SLOTS events, an
 * InQ cannot overflow. Events that find no slot are kept and sent later.
 */
#ifndef _UAPI_LINUX_NETIO_H
#define _UAPI_LINUX_NETIO_H

#include <linux/types.h>
#include <linux/ioctl.h>

#define NETIO_MAGIC		0x4f49544eU	/* "NTIO" in memory, little endian */

/*
 * A process works with a device of the same major version and of the same or
 * a higher minor version. Anything else is refused with both versions named.
 */
#define NETIO_ABI_MAJOR		1
#define NETIO_ABI_MINOR		1
#define NETIO_ABI_VERSION	((NETIO_ABI_MAJOR << 16) | NETIO_ABI_MINOR)

#define NETIO_PAGE_SIZE		4096	/* alignment of the regions */
#define NETIO_NAME_MAX		32	/* instance name, with its NUL */
#define NETIO_LANES_MAX		64
#define NETIO_PORTS_MAX		(1U << 24)
#define NETIO_NBUFS_MAX		(1U << 24)
#define NETIO_PORT_NONE		0	/* port numbers begin at 1 */

/* --- queue entries ------------------------------------------------------- */

#define NETIO_ENT_TOGGLE	0x80000000U
#define NETIO_ENT_MORE		0x40000000U
#define NETIO_ENT_ACTION_SHIFT	24
#define NETIO_ENT_ACTION_MASK	0x3fU
#define NETIO_ENT_PARAM_MASK	0x00ffffffU
#define NETIO_TOGGLE(pos, order) \
	(((((__u32)(pos)) >> (order)) & 1) ? 0U : NETIO_ENT_TOGGLE)

/* Slots of an InQ that are kept free for entries which name no nbuf. */
#define NETIO_EVENT_SLOTS	1024

/* InQ: from the device to the process. */
enum netio_in_action {
	NETIO_IN_NONE		= 0,	/* an untouched slot; never published */
	NETIO_IN_RX		= 1,	/* nbuf: a packet came from netio_nbuf.iport */
	NETIO_IN_GRANT		= 2,	/* nbuf: empty, answers WANT */
	NETIO_IN_PORT		= 3,	/* port: netio_port.state has changed */
	NETIO_IN_QOS		= 4,	/* port: its queue crossed mark_bytes, up or down */
	NETIO_IN_DROPS		= 5,	/* count: packets dropped by the device since the last */
	NETIO_IN_FETCHED	= 6,	/* nbuf (chain): answers FETCH, payload in the nbufs;
					 * still NETIO_NB_PARKED if nbufs were short */
	NETIO_IN_OWNER		= 7,	/* 0: another process has taken the instance over */
	NETIO_IN_DENIED		= 8,	/* count: nbufs asked for by WANT that there were not */
};

/* OutQ: from the process to the device. */
enum netio_out_action {
	NETIO_OUT_NONE		= 0,
	NETIO_OUT_TX		= 1,	/* nbuf (chain): send to netio_nbuf.eport, then free */
	NETIO_OUT_CLONE		= 2,	/* nbuf (chain): send a copy; the process keeps the nbuf
					 * and leaves it alone until head has passed the entry */
	NETIO_OUT_FREE		= 3,	/* nbuf: drop it, and the payload parked with it */
	NETIO_OUT_WANT		= 4,	/* count: ask for that many empty nbufs, up to 16384 */
	NETIO_OUT_FETCH		= 5,	/* nbuf: bring the parked payload, as FETCHED */
};

/* --- the nbuf ------------------------------------------------------------ */

#define NETIO_NBUF_SIZE		2048
#define NETIO_NBUF_HDR		128	/* struct netio_nbuf */
#define NETIO_HEADROOM		64	/* before the packet, for encapsulation */
#define NETIO_NBUF_DATA		(NETIO_NBUF_HDR + NETIO_HEADROOM)	/* usual off */
#define NETIO_NBUF_ROOM		(NETIO_NBUF_SIZE - NETIO_NBUF_DATA)	/* 1856 */

/* The most that the device puts into the first nbuf of a packet, so that there is
 * room for the headers of any tunnel, if the packet is moved behind them.
 */
#define NETIO_NBUF_FILL		(NETIO_NBUF_SIZE - NETIO_NBUF_HDR - NETIO_ENCAP_MAX)

/* The most that encap can be: IPv6, UDP, VXLAN and Ethernet headers. */
#define NETIO_ENCAP_MAX		70

/* Bytes of a parked packet that are in the nbuf: at least its L3 and L4
 * headers, never more than the packet has.
 */
#define NETIO_PARK_COPY_MIN	128
/* The same of UDP packets, which may be a tunnel's: outer and inner headers. */
#define NETIO_PARK_COPY_UDP	192

/* netio_nbuf.flags */
#define NETIO_NB_CSUM_PARTIAL	0x0001	/* csum_start, csum_offset: to be completed */
#define NETIO_NB_CSUM_VALID	0x0002	/* the L4 checksum has been verified */
#define NETIO_NB_PARKED		0x0004	/* total - len bytes are parked in the device */
#define NETIO_NB_DIRTY		0x0008	/* process: header bytes have changed, write back */
#define NETIO_NB_HASH		0x0010	/* hash is valid */

/* netio_nbuf.gso_type: the values of virtio-net (VIRTIO_NET_HDR_GSO_*) */
#define NETIO_GSO_NONE		0
#define NETIO_GSO_TCPV4		1
#define NETIO_GSO_TCPV6		4
#define NETIO_GSO_UDP_L4	5
#define NETIO_GSO_ECN		0x80	/* or'ed in */

#define NETIO_SCRATCH_WORDS	16

/*
 * The housekeeping part at the start of each nbuf. On RX the device has
 * written bytes 0-63 and zeroed nothing else; on TX and CLONE the process has
 * written what differs. The device reads each field once, into a copy of its
 * own, and checks the copy. In a chain only the first nbuf's offload fields
 * and ports count; each nbuf has its own off and len. A GSO packet has a checksum to
 * complete, that of the TCP or UDP header which gso_type is about.
 *
 * encap is not 0 if the packet begins with the headers of a VXLAN tunnel (RFC
 * 7348): IPv4 without options, or IPv6 without extension headers; UDP with a
 * checksum of 0; VXLAN; Ethernet, with the inner packet's type. The inner IP
 * packet is at off + encap, and gso_type and gso_size are its: each segment gets
 * all headers, with their lengths. All of them are in the first nbuf. csum_start
 * counts from off as ever. Headers that are others are refused (bad_entry), and so
 * may be a packet of more than 65535 bytes. Of a packet without GSO the device
 * learns whose checksum is to be completed; it does without if they are others.
 */
struct netio_nbuf {
	__u32	iport;		/*  0 RX: port that the packet came from */
	__u32	eport;		/*  4 TX, CLONE: port to send it to */
	__u16	off;		/*  8 first byte of the packet, from the nbuf's start */
	__u16	len;		/* 10 bytes of the packet in this nbuf */
	__u32	total;		/* 12 bytes of the packet: all nbufs and what is parked */
	__u16	flags;		/* 16 NETIO_NB_* */
	__u8	gso_type;	/* 18 NETIO_GSO_* */
	__u8	lane;		/* 19 RX: lane that it was put on */
	__u16	gso_size;	/* 20 payload bytes per segment, 0 without GSO */
	__u16	hdr_len;	/* 22 bytes of headers, as a hint (virtio-net's hdr_len) */
	__u16	csum_start;	/* 24 from off: where the checksum begins */
	__u16	csum_offset;	/* 26 from csum_start: where it is stored */
	__u32	hash;		/* 28 symmetric flow hash */
	__u64	tstamp;		/* 32 RX: CLOCK_MONOTONIC ns, of the batch or the last tick */
	__u32	mark;		/* 40 class for queueing disciplines, both ways */
	__u16	encap;		/* 44 TX, CLONE: bytes of tunnel headers at off, see below */
	__u16	reserved1;	/* 46 zero */
	__u32	reserved[4];	/* 48 zero */
	__u32	scratch[NETIO_SCRATCH_WORDS];	/* 64 the process's own, never read here */
};

/* --- regions that the device writes -------------------------------------- */

#define NETIO_DEV_KERNEL	1
#define NETIO_DEV_SOFT		2

/* netio_area.features */
#define NETIO_F_PARK		(1ULL << 0)	/* parked payload, FETCH */
#define NETIO_F_GSO		(1ULL << 1)	/* GSO packets cross whole */
#define NETIO_F_CSUM		(1ULL << 2)	/* checksum offload fields */
#define NETIO_F_QOS		(1ULL << 3)	/* NETIO_IN_QOS */
#define NETIO_F_WHOLE		(1ULL << 4)	/* NETIO_PORT_F_WHOLE */
#define NETIO_F_SELF_SERVICE	(1ULL << 5)	/* the device has no context of its own:
						 * each KICK services both queues of the lane, and
						 * the process kicks also on an empty InQ */
#define NETIO_F_TUNNEL		(1ULL << 6)	/* netio_nbuf.encap: GSO in tunnels */

struct netio_area {
	__u32	magic;		/*   0 NETIO_MAGIC, written last */
	__u32	abi_version;	/*   4 NETIO_ABI_VERSION of the device */
	__u32	device;		/*   8 NETIO_DEV_* */
	__u32	page_size;	/*  12 NETIO_PAGE_SIZE */
	__u64	features;	/*  16 NETIO_F_* */
	__u64	area_size;	/*  24 bytes, whole area */
	__u64	epoch;		/*  32 owners so far; changes at each take-over */
	__u32	lanes;		/*  40 */
	__u32	inq_order;	/*  44 log2 of the entries of an InQ */
	__u32	outq_order;	/*  48 log2 of the entries of an OutQ */
	__u32	nbuf_count;	/*  52 */
	__u32	nbuf_size;	/*  56 NETIO_NBUF_SIZE */
	__u32	nbuf_data;	/*  60 NETIO_NBUF_DATA */
	__u32	port_max;	/*  64 entries of the port array; ports are 1 .. port_max-1 */
	__u32	reserved0;	/*  68 */
	__u64	dlane_off;	/*  72 struct netio_dlane, NETIO_PAGE_SIZE apart */
	__u64	inq_off;	/*  80 InQs, (4 << inq_order) apart */
	__u64	port_off;	/*  88 struct netio_port[] */
	__u64	plane_off;	/*  96 struct netio_plane, NETIO_PAGE_SIZE apart */
	__u64	outq_off;	/* 104 OutQs, (4 << outq_order) apart */
	__u64	nbuf_off;	/* 112 nbufs */
	__u32	owner_pid;	/* 120 as the device's opener sees it, 0 if none */
	__u32	reserved1;	/* 124 */
	char	name[NETIO_NAME_MAX];	/* 128 instance, NUL-terminated */
};

/* The device's page of a lane. Each group is a cache line of its own. */
struct netio_dlane {
	/* OutQ, consumer side */
	__u32	outq_head;	/*   0 entries consumed so far, free-running (F, G) */
	__u32	pad0[15];
	__u32	sleep_seq;	/*  64 OutQ service has gone to sleep, times (H) */
	__u32	pad1[15];
	/* InQ, producer side; a hint, the toggle is what counts */
	__u32	inq_tail;	/* 128 entries published so far, free-running; where a new
				 * owner that starts with an empty InQ begins */
	__u32	inq_start;	/* 132 position at which the present owner begins to read */
	__u32	outq_start;	/* 136 position at which the present owner begins to write */
	__u32	pad2[13];
	/* counters, free-running */
	__u64	rx_packets;	/* 192 put on the InQ */
	__u64	tx_packets;	/* 200 taken from the OutQ and sent */
	__u64	rx_no_nbuf;	/* 208 not received: no nbuf, or quota used up */
	__u64	tx_drop;	/* 216 not sent: port gone or down, or it refused */
	__u64	bad_entry;	/* 224 OutQ entries refused: action, index, owner, length */
	__u64	wakeups;	/* 232 wake-ups of the process */
	__u64	reclaimed;	/* 240 nbufs taken back from owners that died or hung */
	__u64	copied;		/* 248 payload bytes beyond the headers copied to or from nbufs */
};

/* netio_port.state */
#define NETIO_PORT_S_PRESENT	0x1	/* the number is in use */
#define NETIO_PORT_S_UP		0x2	/* administratively up, and its peer is there */
#define NETIO_PORT_S_CONGESTED	0x4	/* queue above mark_bytes (QOS) */
#define NETIO_PORT_S_NIC	0x8	/* no knet, but a NIC: see ADD_NIC */

/* netio_port.flags, set by SET_PORT */
#define NETIO_PORT_F_WHOLE	0x1	/* never park: packets come whole, as chains */

/* Transmit queue length and state of one port (paper, section 5). */
struct netio_port {
	__u32	state;		/*  0 NETIO_PORT_S_* */
	__u32	flags;		/*  4 NETIO_PORT_F_* in force */
	__u32	q_packets;	/*  8 packets taken from OutQs and not yet gone */
	__u32	q_bytes;	/* 12 their bytes */
	__u32	mark_bytes;	/* 16 QOS is sent when q_bytes crosses this; 0: never */
	__u32	nbufs;		/* 20 nbufs that hold packets received from this port */
	__u32	nbuf_quota;	/* 24 limit of nbufs */
	__u32	parked_bytes;	/* 28 payload parked for packets received from this port */
	__u32	mtu;		/* 32 bytes, L3 */
	__u32	generation;	/* 36 changes when the number is used anew */
	__u64	rx_drop;	/* 40 packets from this port that found no nbuf */
	__u64	tx_drop;	/* 48 packets to this port that were not delivered */
	__u64	reserved;	/* 56 zero */
};

/* --- region that the process writes --------------------------------------- */

/* The process's page of a lane. */
struct netio_plane {
	/* InQ, consumer side */
	__u32	inq_head;	/*   0 entries consumed so far, free-running (F, G) */
	__u32	pad0[15];
	__u32	sleep_seq;	/*  64 the process has gone to sleep, times (H) */
	__u32	pad1[15];
	/* OutQ, producer side; a hint */
	__u32	outq_tail;	/* 128 entries published so far, free-running */
	__u32	pad2[15];
	/* deadman: what the device does when the process is silent */
	__u32	heartbeat;	/* 192 changes while the process turns its loop */
	__u32	deadman_us;	/* 196 while the device does not sleep, OutQ entries are serviced
				 * after this many microseconds at most; 0: its default */
	__u32	dead_ms;	/* 200 with entries waiting and heartbeat still for this many
				 * milliseconds the owner is dead: what is parked on the InQ is
				 * freed, so that senders are not frozen; 0: the device's default */
	__u32	pad3[13];
};

/* --- housekeeping: ioctls of /dev/netio ------------------------------------ */

/* ATTACH: join or create an instance and own it. */
#define NETIO_ATTACH_TAKEOVER	0x1	/* take it from a live owner, who is told; what it
					 * has mapped is its own memory then, zeroed */
#define NETIO_ATTACH_EXISTING	0x2	/* do not create: ENOENT */
#define NETIO_ATTACH_JOIN	0x4	/* another descriptor of the process that owns it,
					 * to poll another lane; EPERM for others */

/*
 * Errors: EPROTO wrong ABI version, EINVAL a value out of range, EPERM no
 * CAP_NET_ADMIN over the network namespace, EBUSY it has a live owner, ENOENT see
 * flags, EALREADY this descriptor is attached, ENOMEM, EINTR. The other ioctls, mmap()
 * and poll() give ENOTCONN (POLLERR) before ATTACH and EOWNERDEAD (POLLERR and
 * POLLHUP) after another process has taken the instance over.
 */
struct netio_attach {
	__u32	abi_version;	/* in: the process's; out: the device's, also with EPROTO */
	__u32	flags;		/* in: NETIO_ATTACH_* */
	char	name[NETIO_NAME_MAX];	/* in */
	__u32	lanes;		/* in: at creation, 0 for 1; out */
	__u32	nbuf_count;	/* in: at creation, 0 for the default; out */
	__u32	port_max;	/* in: at creation, 0 for the default; out */
	__u32	parked_max;	/* in: at creation, most bytes parked, 0 for the default; out */
	__u64	area_size;	/* out: bytes to mmap */
	__u64	epoch;		/* out */
};

/* SET_PORT: what may be changed of a port; -1 leaves a value as it is. */
struct netio_set_port {
	__u32	port;
	__u32	flags;		/* NETIO_PORT_F_*, all ones: unchanged */
	__u32	nbuf_quota;
	__u32	mark_bytes;
};

/* What the owner keeps with a port, a string with its NUL. */
#define NETIO_LABEL_MAX		1024

/*
 * GET_PORT: the first port of the instance whose number is at least port.
 * ENOENT: there is none. Interfaces may have been moved and renamed since they
 * were made; one whose network namespace has ended is no port any more.
 */
struct netio_get_port {
	__u32	port;		/* in, out */
	__u32	ifindex;	/* out: in its network namespace */
	__u32	state;		/* out: NETIO_PORT_S_* */
	__u32	flags;		/* out: NETIO_PORT_F_* */
	__u32	nbuf_quota;	/* out */
	__u32	mark_bytes;	/* out */
	__u32	mtu;		/* out */
	__u32	generation;	/* out */
	char	ifname[16];	/* out */
	char	label[NETIO_LABEL_MAX];	/* out */
};

/*
 * ADD_NIC: makes a network interface of the instance's network namespace a port,
 * with the state NETIO_PORT_S_NIC. Packets that STEER names are received by the
 * port, all others by the host as before; without STEER these are all. What is
 * sent to the port goes to the next hop of the host's routes by that interface;
 * the host resolves its address. DEL_PORT, and the interface's end or its move
 * to another network namespace, make it an interface of the host's alone again.
 *
 * A NIC whose driver is NetIO's own has its packets in nbufs from the beginning.
 * Any other works as well: its payload is always parked, never copied.
 *
 * Errors: EPERM no CAP_NET_ADMIN over the network namespace, ENODEV no such
 * interface, EINVAL not an Ethernet interface, or a value out of range, EBUSY the
 * interface is in use in this way (NetIO, bridge, bond, ...), EEXIST the number
 * is in use, ENOSPC no number is free, ENOMEM.
 */
struct netio_add_nic {
	__u32	port;		/* in: 0: the device chooses; out */
	__u32	ifindex;	/* in */
	__u32	flags;		/* in: NETIO_PORT_F_* */
	__u32	nbuf_quota;	/* in: 0 for the default */
	char	label[NETIO_LABEL_MAX];	/* in */
};

/* STEER: which packets that a NIC receives are NetIO's, by destination. */
#define NETIO_STEER_REPLACE	0	/* these prefixes, and no others; 0 of them: none */
#define NETIO_STEER_ADD		1	/* these as well; EEXIST: one is there */
#define NETIO_STEER_REMOVE	2	/* these no more; ENOENT: one is not there */
#define NETIO_STEER_MAX		4096	/* prefixes of one port; more: ENOSPC */

struct netio_prefix {
	__u8	addr[16];	/* IPv4 in the first four bytes; zero beyond the prefix */
	__u8	family;		/* AF_INET or AF_INET6 */
	__u8	len;		/* bits */
	__u16	reserved;	/* zero */
};

/*
 * All or nothing. Multicast, broadcast, IPv6 link-local destinations and IPv6
 * neighbour discovery are the host's always. ENOENT no such port, EINVAL the port
 * is no NIC, or a value out of range, ENOSPC, ENOMEM.
 */
struct netio_steer_nic {
	__u32	port;
	__u32	op;		/* NETIO_STEER_* */
	__u32	count;		/* at most NETIO_STEER_MAX */
	__u32	reserved;	/* zero */
	__u64	prefixes;	/* address of struct netio_prefix[count] */
};

#define NETIO_IOC_ATTACH	_IOWR('n', 0xa0, struct netio_attach)
#define NETIO_IOC_KICK		_IO('n', 0xa1)	/* arg: lane */
#define NETIO_IOC_SET_PORT	_IOW('n', 0xa2, struct netio_set_port)
#define NETIO_IOC_DESTROY	_IO('n', 0xa3)	/* the instance; EBUSY while it has ports */
#define NETIO_IOC_SELECT_LANE	_IO('n', 0xa4)	/* arg: lane that poll() on this fd is for, 0
						 * before; epoll keeps the one it began with */
#define NETIO_IOC_GET_PORT	_IOWR('n', 0xa5, struct netio_get_port)
#define NETIO_IOC_DEL_PORT	_IO('n', 0xa6)	/* arg: port; deletes its interface. ENOENT */
#define NETIO_IOC_ADD_NIC	_IOWR('n', 0xa7, struct netio_add_nic)
#define NETIO_IOC_STEER		_IOW('n', 0xa8, struct netio_steer_nic)

/* --- knets: IFLA_INFO_DATA of rtnl kind "knet" ----------------------------- */

#define NETIO_KNET_KIND		"knet"

enum {
	IFLA_KNET_UNSPEC,
	IFLA_KNET_INSTANCE,	/* string: instance in the socket's network namespace */
	IFLA_KNET_PORT,		/* u32: number; 0 or absent: the device chooses; dumped */
	IFLA_KNET_QUOTA,	/* u32: nbufs */
	IFLA_KNET_FLAGS,	/* u32: NETIO_PORT_F_* */
	IFLA_KNET_LABEL,	/* string: see NETIO_LABEL_MAX; dumped in the instance's
				 * network namespace alone */
	__IFLA_KNET_MAX,
};

#define IFLA_KNET_MAX (__IFLA_KNET_MAX - 1)

#endif /* _UAPI_LINUX_NETIO_H */
