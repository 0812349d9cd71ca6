/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Rewrites a frame for its backend. All checks that can fail without a trace come before. */
#ifndef __REWRITE_H__
#define __REWRITE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/backend.h"
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
					       const struct backend *backend)
{
	__u64 change = 0;

	if (backend->flags & BACKEND_KEEP_IP)
		return 0;
	change = replace_words(daddr, backend->addr, words);
	if (backend->flags & BACKEND_SNAT)
		change += replace_words(saddr, backend->snat, words);
	return change;
}

static __always_inline __u64 rewrite_ipv4(struct iphdr *ip, const struct backend *backend)
{
	__u64 addrs = replace_addresses(&ip->saddr, &ip->daddr, 1, backend);
	__u64 change = addrs;

	if (backend->flags & BACKEND_DECREMENT_TTL) {
		ip->ttl--;
		change += (__u16)~bpf_htons(0x0100);
	}
	if (backend->flags & BACKEND_DECREMENT_TTL || !(backend->flags & BACKEND_KEEP_IP))
		ip->check = update_checksum(ip->check, change);
	return addrs;
}

static __always_inline __u64 rewrite_ipv6(struct ipv6hdr *ip, const struct backend *backend)
{
	if (backend->flags & BACKEND_DECREMENT_TTL)
		ip->hop_limit--;
	return replace_addresses(ip->saddr, ip->daddr, 4, backend);
}

/* The destination port and the checksum, which are in a whole packet or a first fragment. */
static __always_inline void rewrite_segment(struct xdp_md *ctx, const struct packet *pkt,
					    const struct backend *backend, __u64 pseudo,
					    struct sum_change *change)
{
	__be16 *dport = pkt->l4 + sizeof(__be16);

	if (backend->port)
		change->ports = (__u16) ~*dport + backend->port;
	*pkt->check = l4_checksum(ctx, pkt, backend, pseudo, change);
	if (backend->port)
		*dport = backend->port;
}

/*
 * MAC addresses and VLAN tag: the frame may lose its outer tag, get one, or have it replaced. False
 * where there is no room in front of the frame for a tag. The packet is rewritten by then and can
 * no longer pass.
 */
static __always_inline bool rewrite_link(struct xdp_md *ctx, const struct packet *pkt,
					 const struct backend *backend)
{
	bool pop = backend->flags & BACKEND_POP_VLAN && pkt->tags;
	bool push = backend->flags & BACKEND_PUSH_VLAN;
	struct ethhdr *eth = pkt->eth;
	struct tag *tag;

	if (pop && !push) {
		__builtin_memcpy((void *)eth + sizeof(*tag), backend->frame,
				 sizeof(backend->frame));
		return bpf_xdp_adjust_head(ctx, sizeof(*tag)) == 0;
	}
	if (push && !pop) {
		if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*tag)))
			return false;
		eth = (void *)(long)ctx->data;
		if ((void *)(eth + 1) + sizeof(*tag) > (void *)(long)ctx->data_end)
			return false;
	}
	__builtin_memcpy(eth, backend->frame, sizeof(backend->frame));
	tag = (void *)(eth + 1);
	if (push && pop) { /* the protocol, priority and drop eligibility stay */
		tag->tci = (tag->tci & ~bpf_htons(VLAN_ID)) | backend->vlan;
	} else if (push) {
		eth->h_proto = bpf_htons(ETH_P_8021Q);
		tag->tci = backend->vlan;
	}
	return true;
}

static __always_inline bool rewrite(struct xdp_md *ctx, const struct packet *pkt,
				    const struct backend *backend)
{
	struct sum_change change = {};
	__u64 pseudo = pseudo_header(pkt); /* of the old addresses */

	if (pkt->family == FAMILY_IPV4)
		change.addrs = rewrite_ipv4(pkt->ip, backend);
	else
		change.addrs = rewrite_ipv6(pkt->ip, backend);
	if (pkt->check)
		rewrite_segment(ctx, pkt, backend, pseudo, &change);
	return rewrite_link(ctx, pkt, backend);
}

#endif
