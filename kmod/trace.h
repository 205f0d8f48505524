/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints, events/netio in tracefs. Those per packet cost a static branch. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM netio

#if !defined(NETIO_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define NETIO_TRACE_H

#include <linux/tracepoint.h>

#include "iface.h"
#include "instance.h"

#ifndef NETIO_TRACE_ENUMS
#define NETIO_TRACE_ENUMS
enum netio_owner_change {
	NETIO_OWNER_ATTACH,
	NETIO_OWNER_TAKEOVER,
	NETIO_OWNER_JOIN,
	NETIO_OWNER_GONE,
};
#endif

TRACE_DEFINE_ENUM(NETIO_DROP_RX_NO_NBUF);
TRACE_DEFINE_ENUM(NETIO_DROP_RX_NO_PACKET);
TRACE_DEFINE_ENUM(NETIO_DROP_RX_NO_MEMORY);
TRACE_DEFINE_ENUM(NETIO_DROP_RX_DOWN);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_NO_PORT);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_DOWN);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_TOO_LONG);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_NO_NEIGHBOUR);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_REFUSED);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_NO_MEMORY);
TRACE_DEFINE_ENUM(NETIO_DROP_TX_LOST);
TRACE_DEFINE_ENUM(NETIO_OWNER_ATTACH);
TRACE_DEFINE_ENUM(NETIO_OWNER_TAKEOVER);
TRACE_DEFINE_ENUM(NETIO_OWNER_JOIN);
TRACE_DEFINE_ENUM(NETIO_OWNER_GONE);

#define netio_drop_name(reason)						\
	__print_symbolic(reason,					\
		{ NETIO_DROP_RX_NO_NBUF, "rx_no_nbuf" },		\
		{ NETIO_DROP_RX_NO_PACKET, "rx_no_packet" },		\
		{ NETIO_DROP_RX_NO_MEMORY, "rx_no_memory" },		\
		{ NETIO_DROP_RX_DOWN, "rx_down" },			\
		{ NETIO_DROP_TX_NO_PORT, "tx_no_port" },		\
		{ NETIO_DROP_TX_DOWN, "tx_down" },			\
		{ NETIO_DROP_TX_TOO_LONG, "tx_too_long" },		\
		{ NETIO_DROP_TX_NO_NEIGHBOUR, "tx_no_neighbour" },	\
		{ NETIO_DROP_TX_REFUSED, "tx_refused" },		\
		{ NETIO_DROP_TX_NO_MEMORY, "tx_no_memory" },		\
		{ NETIO_DROP_TX_LOST, "tx_lost" })

#define netio_owner_name(change)					\
	__print_symbolic(change,					\
		{ NETIO_OWNER_ATTACH, "attach" },			\
		{ NETIO_OWNER_TAKEOVER, "takeover" },			\
		{ NETIO_OWNER_JOIN, "join" },				\
		{ NETIO_OWNER_GONE, "gone" })

DECLARE_EVENT_CLASS(netio_packet,
		    TP_PROTO(const struct netio_lane *lane, u32 port, u32 len),
		    TP_ARGS(lane, port, len),
		    TP_STRUCT__entry(__array(char, instance, NETIO_NAME_MAX)
				     __field(u32, lane)
				     __field(u32, port)
				     __field(u32, len)
		    ),
		    TP_fast_assign(memcpy(__entry->instance, lane->inst->name, NETIO_NAME_MAX);
				   __entry->lane = lane->number;
				   __entry->port = port;
				   __entry->len = len;
		    ),
		    TP_printk("instance=%s lane=%u port=%u len=%u", __entry->instance,
			      __entry->lane, __entry->port, __entry->len)
);

/* A packet of a port is on the InQ. */
DEFINE_EVENT(netio_packet, netio_receive,
	     TP_PROTO(const struct netio_lane *lane, u32 port, u32 len),
	     TP_ARGS(lane, port, len));

/* A packet of the OutQ goes to a port. */
DEFINE_EVENT(netio_packet, netio_send,
	     TP_PROTO(const struct netio_lane *lane, u32 port, u32 len),
	     TP_ARGS(lane, port, len));

TRACE_EVENT(netio_drop,
	    TP_PROTO(const struct netio_instance *inst, u32 port, u32 len,
		     enum netio_drop_reason reason),
	    TP_ARGS(inst, port, len, reason),
	    TP_STRUCT__entry(__array(char, instance, NETIO_NAME_MAX)
			     __field(u32, port)
			     __field(u32, len)
			     __field(u32, reason)
	    ),
	    TP_fast_assign(memcpy(__entry->instance, inst->name, NETIO_NAME_MAX);
			   __entry->port = port;
			   __entry->len = len;
			   __entry->reason = reason;
	    ),
	    TP_printk("instance=%s port=%u len=%u reason=%s", __entry->instance,
		      __entry->port, __entry->len,
		      netio_drop_name(__entry->reason))
);

/* Of a lane, at a position of the OutQ, or of the InQ where it is said. */
DECLARE_EVENT_CLASS(netio_lane_at,
		    TP_PROTO(const struct netio_lane *lane, u32 pos),
		    TP_ARGS(lane, pos),
		    TP_STRUCT__entry(__array(char, instance, NETIO_NAME_MAX)
				     __field(u32, lane)
				     __field(u32, pos)
		    ),
		    TP_fast_assign(memcpy(__entry->instance, lane->inst->name, NETIO_NAME_MAX);
				   __entry->lane = lane->number;
				   __entry->pos = pos;
		    ),
		    TP_printk("instance=%s lane=%u pos=%u", __entry->instance, __entry->lane,
			      __entry->pos)
);

/* The process has called KICK. */
DEFINE_EVENT(netio_lane_at, netio_kick,
	     TP_PROTO(const struct netio_lane *lane, u32 pos), TP_ARGS(lane, pos));

/* The process has been woken, with entries on the InQ up to pos. */
DEFINE_EVENT(netio_lane_at, netio_wake,
	     TP_PROTO(const struct netio_lane *lane, u32 pos), TP_ARGS(lane, pos));

/* The process has not moved for dead_ms, with entries on the InQ up to pos. */
DEFINE_EVENT(netio_lane_at, netio_hung,
	     TP_PROTO(const struct netio_lane *lane, u32 pos), TP_ARGS(lane, pos));

/* What was refused ends before pos. */
DEFINE_EVENT(netio_lane_at, netio_bad_entry,
	     TP_PROTO(const struct netio_lane *lane, u32 pos), TP_ARGS(lane, pos));

TRACE_EVENT(netio_owner,
	    TP_PROTO(const struct netio_instance *inst, enum netio_owner_change change),
	    TP_ARGS(inst, change),
	    TP_STRUCT__entry(__array(char, instance, NETIO_NAME_MAX)
			     __field(u64, epoch)
			     __field(u32, change)
			     __field(pid_t, pid)
	    ),
	    TP_fast_assign(memcpy(__entry->instance, inst->name, NETIO_NAME_MAX);
			   __entry->epoch = inst->epoch;
			   __entry->change = change;
			   __entry->pid = pid_nr(inst->owner);
	    ),
	    TP_printk("instance=%s change=%s epoch=%llu pid=%d", __entry->instance,
		      netio_owner_name(__entry->change),
		      __entry->epoch, __entry->pid)
);

#endif /* NETIO_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
