/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /proc/net/netio: what instances and ports there are, and what they have counted,
 * for people. Of the reader's network namespace, and without the owner's help.
 */
#ifndef NETIO_SHOW_H
#define NETIO_SHOW_H

#include <net/net_namespace.h>

int netio_show_init(struct net *net);
void netio_show_exit(struct net *net);

#endif /* NETIO_SHOW_H */
