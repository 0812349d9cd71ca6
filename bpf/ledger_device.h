/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the tracing programs ask of devices. */
#ifndef __LEDGER_DEVICE_H__
#define __LEDGER_DEVICE_H__

#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>

const volatile __u32 netns = 0; /* inode number of the network namespace */

static __always_inline bool is_in_our_netns(const struct net_device *dev)
{
	return dev->nd_net.net->ns.inum == netns;
}

static __always_inline bool has_link(const struct net_device *dev)
{
	return dev->flags & IFF_UP && !(dev->state & 1UL << __LINK_STATE_NOCARRIER);
}

#endif
