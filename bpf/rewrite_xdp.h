/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What rewriting is at the XDP hooks, where tags are in the frame, and sums are the program's. */
#ifndef __REWRITE_XDP_H__
#define __REWRITE_XDP_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "checksum.h"
#include "hook.h"
#include "macs.h"
#include "parse.h"

/* The ports and the checksum, which are in a whole packet or a first fragment. */
static __always_inline void rewrite_segment(struct hook_ctx *ctx, const struct packet *pkt,
					    const struct action *action, __be16 new_sport,
					    __u64 pseudo, struct sum_change *change)
{
	__be16 *sport = pkt->l4, *dport = pkt->l4 + sizeof(__be16);

	if (action->port)
		change->ports = (__u16) ~*dport + action->port;
	if (new_sport)
		change->ports += (__u16) ~*sport + new_sport;
	*pkt->check = l4_checksum(ctx, pkt, action, pseudo, change);
	if (action->port)
		*dport = action->port;
	if (new_sport)
		*sport = new_sport;
}

/* Makes room for a tag in front of the frame, and writes it and the MAC addresses. */
static __always_inline bool push_tag(struct hook_ctx *ctx, const struct action *action)
{
	struct ethhdr *eth;
	struct tag *tag;

	if (!make_room(ctx, sizeof(*tag)))
		return false;
	eth = (void *)(long)ctx->data;
	tag = (void *)(eth + 1);
	if ((void *)(tag + 1) > (void *)(long)ctx->data_end)
		return false;
	write_macs(eth, action);
	eth->h_proto = bpf_htons(ETH_P_8021Q);
	tag->tci = action->vlan;
	return true;
}

/*
 * MAC addresses and VLAN tags: the frame may lose its outer tags, and get one, which takes the
 * place of the last one that is lost. False where there is no room in front of the frame for a tag.
 * The packet is rewritten by then and can no longer pass.
 */
static __always_inline bool rewrite_link(struct hook_ctx *ctx, const struct packet *pkt,
					 const struct action *action)
{
	__u32 pops = action->pops < pkt->tags ? action->pops : pkt->tags;
	bool push = action->flags & REWRITE_PUSH_VLAN;
	void *start = pkt->eth;
	struct tag *tag;
	__u32 lost;

	if (push && !pops)
		return push_tag(ctx, action);
	lost = pops ? pops - push : 0;
	if (lost == 1)
		start += sizeof(*tag);
	else if (lost == 2)
		start += 2 * sizeof(*tag);
	write_macs(start, action);
	if (push) { /* the protocol, priority and drop eligibility stay */
		tag = start + sizeof(struct ethhdr);
		tag->tci = (tag->tci & ~bpf_htons(VLAN_ID)) | action->vlan;
	}
	return !lost || bpf_xdp_adjust_head(ctx, lost * sizeof(*tag)) == 0;
}

/* No buffer has a sum of the frame. */
static __always_inline void settle_sum(struct hook_ctx *ctx, const struct sum_change *change)
{
}

#endif
