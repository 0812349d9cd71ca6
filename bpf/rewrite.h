/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Rewrites a frame for its backend. All checks that can fail without a trace come before. */
#ifndef __REWRITE_H__
#define __REWRITE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "balance.h"
#include "checksum.h"
#include "hook.h"
#include "parse.h"

#ifdef HOOK_TC
#include "rewrite_tc.h"
#else
#include "rewrite_xdp.h"
#endif

/* Replaces words, and returns what changes in sums over them: see struct sum_change. */
static __always_inline __u64 replace_words(__be32 *words, const __be32 *new_words, int count)
{
	__u64 change = 0;

	for (int i = 0; i < count; i++) {
		change += (__u64)(__u32)~words[i] + new_words[i];
		words[i] = new_words[i];
	}
	return change;
}

static __always_inline __u64 replace_addresses(__be32 *saddr, __be32 *daddr, int words,
					       const struct action *action)
{
	__u64 change = 0;

	if (action->flags & REWRITE_KEEP_IP)
		return 0;
	change = replace_words(daddr, action->addr, words);
	if (action->flags & REWRITE_SNAT)
		change += replace_words(saddr, action->snat, words);
	return change;
}

static __always_inline __u64 rewrite_ipv4(struct iphdr *ip, const struct action *action)
{
	__u64 addrs = replace_addresses(&ip->saddr, &ip->daddr, 1, action);
	__u64 change = addrs;

	if (action->flags & REWRITE_DECREMENT_TTL) {
		ip->ttl--;
		change += (__u16)~bpf_htons(0x0100);
	}
	if (action->flags & REWRITE_DECREMENT_TTL || !(action->flags & REWRITE_KEEP_IP))
		ip->check = update_checksum(ip->check, change);
	return addrs;
}

/* header: what changes in sums over the IP header, which has none of its own. */
static __always_inline __u64 rewrite_ipv6(struct ipv6hdr *ip, const struct action *action,
					  __u64 *header)
{
	__u64 hops = 0, addrs;

	if (action->flags & REWRITE_DECREMENT_TTL) {
		ip->hop_limit--;
		hops = (__u16)~bpf_htons(0x0001);
	}
	addrs = replace_addresses(ip->saddr, ip->daddr, 4, action);
	*header = addrs + hops;
	return addrs;
}

static __always_inline bool rewrite(struct hook_ctx *ctx, const struct packet *pkt,
				    const struct decision *decision)
{
	const struct action *action = decision->action;
	struct sum_change change = {};
	__u64 pseudo = pseudo_header(pkt); /* of the old addresses */

	if (pkt->family == FAMILY_IPV4)
		change.addrs = rewrite_ipv4(pkt->ip, action);
	else
		change.addrs = rewrite_ipv6(pkt->ip, action, &change.header);
	if (pkt->check)
		rewrite_segment(ctx, pkt, action, decision->sport, pseudo, &change);
	settle_sum(ctx, &change);
	return action->kind == ACTION_HAND_OVER || rewrite_link(ctx, pkt, action);
}

#endif
