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
#include "parse.h"

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

static __always_inline __u64 rewrite_ipv6(struct ipv6hdr *ip, const struct action *action)
{
	if (action->flags & REWRITE_DECREMENT_TTL)
		ip->hop_limit--;
	return replace_addresses(ip->saddr, ip->daddr, 4, action);
}

/* The ports and the checksum, which are in a whole packet or a first fragment. */
static __always_inline void rewrite_segment(struct xdp_md *ctx, const struct packet *pkt,
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

/*
 * Writes the MAC addresses with which a frame leaves. In two steps, because the compiler, which
 * knows of no alignment, would take twelve.
 */
static __always_inline void write_macs(void *frame, const struct action *action)
{
	const __u64 *from = (const __u64 *)action->frame;
	__u64 *to = frame;

	to[0] = from[0];
	*(__u32 *)(to + 1) = *(const __u32 *)(from + 1);
}

/* Makes room for a tag in front of the frame, and writes it and the MAC addresses. */
static __always_inline bool push_tag(struct xdp_md *ctx, const struct action *action)
{
	struct ethhdr *eth;
	struct tag *tag;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*tag)))
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
static __always_inline bool rewrite_link(struct xdp_md *ctx, const struct packet *pkt,
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

static __always_inline bool rewrite(struct xdp_md *ctx, const struct packet *pkt,
				    const struct decision *decision)
{
	const struct action *action = decision->action;
	struct sum_change change = {};
	__u64 pseudo = pseudo_header(pkt); /* of the old addresses */

	if (pkt->family == FAMILY_IPV4)
		change.addrs = rewrite_ipv4(pkt->ip, action);
	else
		change.addrs = rewrite_ipv6(pkt->ip, action);
	if (pkt->check)
		rewrite_segment(ctx, pkt, action, decision->sport, pseudo, &change);
	return action->kind == ACTION_HAND_OVER || rewrite_link(ctx, pkt, action);
}

#endif
