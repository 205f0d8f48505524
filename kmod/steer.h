/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which of a NIC's packets are NetIO's: those to addresses within prefixes that
 * the owner has given. A set never changes, it is replaced; readers are under RCU.
 */
#ifndef NETIO_STEER_H
#define NETIO_STEER_H

#include <linux/netio.h>
#include <linux/rcupdate.h>

struct netio_steer;

/*
 * The set that op makes of old, which stays as it is. ERR_PTR: EINVAL for a prefix
 * or op that is none, EEXIST, ENOENT, ENOSPC, ENOMEM. Sleeps.
 */
struct netio_steer *netio_steer_change(const struct netio_steer *old, u32 op,
				       const struct netio_prefix *p, u32 count);

/* After a grace period; NULL is no set. */
void netio_steer_free(struct netio_steer *s);

/*
 * Whether a packet is NetIO's. l3 has len bytes of it. What the host's own
 * neighbour discovery needs never is. NULL is the empty set.
 */
bool netio_steer_ours(const struct netio_steer *s, const u8 *l3, u32 len);

#endif /* NETIO_STEER_H */
