/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a backend to the frame that it gets. */
#ifndef __REWRITE_H__
#define __REWRITE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/backend.h"
#include "checksum.h"
#include "parse.h"

/* Replaces words, and gives the change in sums over them. */
static __always_inline __u64 put_words(__be32 *words, const __be32 *now, int count)
{
	__u64 change = 0;

	for (int i = 0; i < count; i++) {
		change += (__u64)(__u32)~words[i] + now[i];
		words[i] = now[i];
	}
	return change;
}

/* The addresses. The pseudo-header's sum, of the old ones, is taken before. */
static __always_inline __u64 put_addrs(__be32 *saddr, __be32 *daddr, int words,
				       const struct backend *backend)
{
	__u64 change = 0;

	if (backend->flags & BACKEND_KEEP_IP)
		return 0;
	change = put_words(daddr, backend->addr, words);
	if (backend->flags & BACKEND_SNAT)
		change += put_words(saddr, backend->snat, words);
	return change;
}

static __always_inline __u64 rewrite_ipv4(struct iphdr *ip, const struct backend *backend)
{
	__u64 addrs = put_addrs(&ip->saddr, &ip->daddr, 1, backend);
	__u64 change = addrs;

	if (backend->flags & BACKEND_DECREMENT_TTL) {
		ip->ttl--;
		change += (__u16)~bpf_htons(0x0100);
	}
	if (backend->flags & BACKEND_DECREMENT_TTL || !(backend->flags & BACKEND_KEEP_IP))
		ip->check = update(ip->check, change);
	return addrs;
}

static __always_inline __u64 rewrite_ipv6(struct ipv6hdr *ip, const struct backend *backend)
{
	if (backend->flags & BACKEND_DECREMENT_TTL)
		ip->hop_limit--;
	return put_addrs(ip->saddr, ip->daddr, 4, backend);
}

/* Ports and checksum of the segment, or of the first fragment of it. */
static __always_inline void rewrite_segment(struct xdp_md *ctx, const struct packet *pkt,
					    const struct backend *backend, __u64 pseudo,
					    struct change *change)
{
	__be16 *dport = pkt->l4 + sizeof(__be16);

	if (backend->port)
		change->ports = (__u16) ~*dport + backend->port;
	*pkt->check = l4_checksum(ctx, pkt, backend, pseudo, change);
	if (backend->port)
		*dport = backend->port;
}

/*
 * The first bytes of the frame, one tag less, one more or another one. False where
 * there is no room in front of the frame for one more.
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
	if (push && pop) { /* its kind, priority and drop eligibility stay */
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
	struct change change = {};
	__u64 pseudo = pseudo_header(pkt);

	if (pkt->family == FAMILY_IPV4)
		change.addrs = rewrite_ipv4(pkt->ip, backend);
	else
		change.addrs = rewrite_ipv6(pkt->ip, backend);
	if (pkt->fragment != LATER)
		rewrite_segment(ctx, pkt, backend, pseudo, &change);
	return rewrite_link(ctx, pkt, backend);
}

#endif
