/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether the kernel would send a redirected packet on. It drops one that is too long without a
 * word, so the program asks before it changes a byte, and lets such a packet pass.
 */
#ifndef __EGRESS_CHECKS_H__
#define __EGRESS_CHECKS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "parse.h"

/* False where the rule decrements the TTL and the packet would leave with none (RFC 1812, 5.3.1).
 */
static __always_inline bool ttl_allows(const struct packet *pkt, const struct action *action)
{
	__u32 ttl;

	if (!(action->flags & REWRITE_DECREMENT_TTL))
		return true;
	ttl = pkt->family == FAMILY_IPV4 ? ((struct iphdr *)pkt->ip)->ttl
					 : ((struct ipv6hdr *)pkt->ip)->hop_limit;
	return ttl > 1;
}

/*
 * Whether the egress device carries the frame. The kernel is not asked about short frames: every
 * IPv4 link carries 68 bytes (RFC 791). One VLAN tag is not part of the MTU.
 */
static __always_inline bool mtu_allows(struct xdp_md *ctx, const struct packet *pkt,
				       const struct action *action)
{
	__u32 tags = pkt->tags;
	__u32 mtu;

	if (pkt->size <= sizeof(struct ethhdr) + 68)
		return true;
	mtu = pkt->size - sizeof(struct ethhdr);
	if (tags && action->pops) {
		mtu -= sizeof(struct tag);
		tags--;
	}
	if (action->flags & REWRITE_PUSH_VLAN) {
		mtu += sizeof(struct tag);
		tags++;
	}
	if (tags)
		mtu -= sizeof(struct tag);
	return bpf_check_mtu(ctx, action->ifindex, &mtu, 0, 0) == 0;
}

#endif
