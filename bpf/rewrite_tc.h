/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What rewriting is at the tc hook. Only the kernel's own calls know whether a checksum is partial,
 * and keep the skb's sum right. Each of them makes pointers into the frame void.
 */
#ifndef __REWRITE_TC_H__
#define __REWRITE_TC_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "checksum.h"
#include "hook.h"
#include "macs.h"
#include "parse.h"

/* A sum of 16-bit words in 32 bits, as the kernel's calls take it. */
static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* Writes the ports, and returns what changes in sums over them. */
static __always_inline __u64 rewrite_ports(__be16 *ports, const struct action *action,
					   __be16 new_sport)
{
	__u64 change = 0;

	if (new_sport) {
		change = (__u16)~ports[0] + new_sport;
		ports[0] = new_sport;
	}
	if (action->port) {
		change += (__u16)~ports[1] + action->port;
		ports[1] = action->port;
	}
	return change;
}

/*
 * The ports and the checksum, which are in a whole packet or a first fragment. A partial checksum
 * has only the pseudo-header in it. Of a datagram whose sender computed none (RFC 768, RFC 6935),
 * nothing balances the ports, and in IPv6 nothing the addresses.
 */
static __always_inline void rewrite_segment(struct hook_ctx *ctx, const struct packet *pkt,
					    const struct action *action, __be16 new_sport,
					    __u64 pseudo, struct sum_change *change)
{
	bool udp = pkt->proto == IPPROTO_UDP, has_none = udp && !*pkt->check;
	__u64 zero = udp ? BPF_F_MARK_MANGLED_0 : 0; /* it would say that there is none */
	__u32 field = pkt->l4_offset + (udp ? __builtin_offsetof(struct udphdr, check)
					    : __builtin_offsetof(struct tcphdr, check));

	change->ports = rewrite_ports(pkt->l4, action, new_sport);
	if (has_none) {
		change->header += change->ports;
		return;
	}
	if (!(action->flags & REWRITE_KEEP_IP))
		bpf_l4_csum_replace(ctx, field, 0, fold32(change->addrs), BPF_F_PSEUDO_HDR | zero);
	if (change->ports)
		bpf_l4_csum_replace(ctx, field, 0, change->ports, zero);
}

/*
 * Updates the skb's sum, if it has one. In IPv4 the header's own checksum balances what changes in
 * the header. The call for the segment's checksum has taken the pseudo-header off the sum, which in
 * IPv6 is right only once the addresses themselves are added.
 */
static __always_inline void settle_sum(struct hook_ctx *ctx, const struct sum_change *change)
{
	if (change->header)
		bpf_csum_update(ctx, fold32(change->header));
}

/* The outer tag: its identifier with priority and drop eligibility, and its protocol. */
struct outer_tag {
	__u16 tci;
	__be16 proto;
};

/* It is in the frame only where nothing has received the frame: in test runs. */
static __always_inline struct outer_tag read_outer_tag(struct hook_ctx *ctx)
{
	struct outer_tag outer = {.tci = ctx->vlan_tci, .proto = ctx->vlan_proto};
	__be16 tag[2] = {};

	if (ctx->vlan_present)
		return outer;
	load_bytes(ctx, __builtin_offsetof(struct ethhdr, h_proto), tag, sizeof(tag));
	outer.proto = tag[0];
	outer.tci = bpf_ntohs(tag[1]);
	return outer;
}

/*
 * False where the kernel has no memory for it. Neither static nor inlined, so that the verifier
 * walks it once.
 */
__noinline __u32 rewrite_tags(struct hook_ctx *ctx, __u32 pops, __u32 push, __u32 vlan)
{
	struct outer_tag tag = {.proto = bpf_htons(ETH_P_8021Q)};

	if (pops == 2 && bpf_skb_vlan_pop(ctx))
		return false;
	if (pops && push) /* the protocol, priority and drop eligibility stay */
		tag = read_outer_tag(ctx);
	if (pops && bpf_skb_vlan_pop(ctx))
		return false;
	tag.tci = (tag.tci & ~VLAN_ID) | vlan;
	return !push || bpf_skb_vlan_push(ctx, tag.proto, tag.tci) == 0;
}

/*
 * MAC addresses and VLAN tags: the frame may lose its outer tags, and get one, which takes the
 * place of the last one that is lost. False where that cannot be done. The packet is rewritten by
 * then and can no longer pass.
 */
static __always_inline bool rewrite_link(struct hook_ctx *ctx, const struct packet *pkt,
					 const struct action *action)
{
	__u32 pops = action->pops < pkt->tags ? action->pops : pkt->tags;
	bool push = action->flags & REWRITE_PUSH_VLAN;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return false;
	write_macs(eth, action);
	return (!pops && !push) || rewrite_tags(ctx, pops, push, bpf_ntohs(action->vlan));
}

#endif
