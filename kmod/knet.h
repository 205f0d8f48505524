/* SPDX-License-Identifier: GPL-2.0 */
/* The knet (paper, section 7): a pseudo interface that ends in an instance. */
#ifndef NETIO_KNET_H
#define NETIO_KNET_H

#include <linux/list.h>

struct netio_iface;
struct netio_instance;

/*
 * Deletes the interface of a knet, or has unregister_netdevice_many() do it, if
 * there is a list. rtnl is held.
 */
void netio_knet_delete(struct netio_iface *iface, struct list_head *list);

int netio_knet_init(void);
void netio_knet_exit(void);

#endif /* NETIO_KNET_H */
