/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Parses in a function of its own, so that the verifier does not walk all that follows for each
 * path through parse(): each combination of tags, IP version, fragment and protocol. What was found
 * is handed on in memory, from where the verifier takes it for any numbers.
 */
#ifndef __CONVERGE_H__
#define __CONVERGE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/outcomes.h"
#include "abi/rule.h"
#include "hook.h"
#include "parse.h"
#include "scratch.h"

/* Parses any packet, into this CPU's memory. */
__noinline __u32 parse_any(struct hook_ctx *ctx)
{
	struct packet pkt = {.size = frame_size(ctx)};
	__u32 outcome = parse(ctx, &pkt, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	struct scratch *mine = this_cpu_scratch();

	if (!mine) /* never; the verifier doesn't know */
		return OUTCOME_MALFORMED;
	if (outcome) /* not even a fragment: it has nothing to forget */
		pkt.fragment = WHOLE;
	pkt.eth = NULL; /* the verifier takes no pointers into memory */
	pkt.ip = NULL;
	pkt.l4 = NULL;
	pkt.check = NULL;
	mine->parsed = pkt;
	return outcome;
}

/*
 * Verifiers before 6.2 do not learn from a comparison what a number on the stack is. So the number
 * is written once more; the barrier hides from the compiler that it is the same.
 */
static __always_inline __u64 known(__u64 number)
{
	asm volatile("" : "+r"(number));
	return number;
}

/* Points to the headers where parse has found them. False never; the verifier doesn't know. */
static __always_inline bool find_headers(struct hook_ctx *ctx, struct packet *pkt)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct udphdr *udp;
	struct tcphdr *tcp;

	pkt->eth = data;
	pkt->check = NULL;
	pkt->ip = data + (pkt->ip_offset & 31);
	pkt->l4 = data + (pkt->l4_offset & (2 * MAX_L4_OFFSET - 1));
	if (data + sizeof(struct ethhdr) + sizeof(struct iphdr) > end)
		return false;
	if (pkt->family == FAMILY_IPV4) {
		if (pkt->ip + sizeof(struct iphdr) > end)
			return false;
		pkt->family = known(FAMILY_IPV4);
	} else {
		if (pkt->ip + sizeof(struct ipv6hdr) > end)
			return false;
		pkt->family = known(FAMILY_IPV6);
	}
	if (pkt->fragment == LATER)
		return true;
	if (pkt->proto == IPPROTO_UDP) {
		udp = pkt->l4;
		pkt->check = &udp->check;
		return (void *)(udp + 1) <= end;
	}
	if (pkt->proto == IPPROTO_TCP) {
		tcp = pkt->l4;
		pkt->check = &tcp->check;
		return (void *)(tcp + 1) <= end;
	}
	return true;
}

/* The packet that parse_any has read. False never; the verifier doesn't know. */
static __always_inline bool load_packet(struct hook_ctx *ctx, struct packet *pkt)
{
	struct scratch *mine = this_cpu_scratch();

	if (!mine)
		return false;
	*pkt = mine->parsed;
	return find_headers(ctx, pkt);
}

#endif
