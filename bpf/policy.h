/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The interface's policy: what becomes of a frame that no rule matches. What the policy forwards is
 * meant for whoever is behind the device, and never for this host. So a frame that cannot be
 * forwarded is dropped: the host's stack would answer in the other's place, with a reset for each
 * of its connections, for one.
 */
#ifndef __POLICY_H__
#define __POLICY_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "abi/outcomes.h"
#include "abi/policy.h"
#include "egress_checks.h"
#include "forward.h"
#include "hook.h"
#include "ledger.h"
#include "maps.h"
#include "outcome.h"
#include "parse.h"
#include "show.h"

/* One read of one word: the command may change the policy meanwhile. */
static __always_inline struct policy policy_of(__u32 slot)
{
	volatile __u64 *value = bpf_map_lookup_elem(&policy, &slot);
	__u64 word = value ? *value : POLICY_PASS;
	struct policy now;

	__builtin_memcpy(&now, &word, sizeof(now));
	return now;
}

/* Whether rules take nothing here: see POLICY_ANSWERS_ONLY. */
static __always_inline bool answers_only(__u32 slot)
{
	return interface.for_answers && policy_of(slot).flags & POLICY_ANSWERS_ONLY;
}

/*
 * Whether the program has no part in what arrives here while this rule set is live: see
 * POLICY_DORMANT. Neither static nor inlined, so that it takes no stack of the caller's.
 */
__noinline __u32 is_dormant(__u32 live)
{
	return policy_of(live & LIVE_SLOT).flags & POLICY_DORMANT;
}

/*
 * Prepares the redirect of a frame by the policy. Its first VLAN tag is not part of the MTU, and
 * every link carries 68 bytes. Neither static nor inlined, so that the verifier walks it once and
 * not for every path that ends without a rule.
 */
__noinline __u32 prepare_forward(struct hook_ctx *ctx, __u32 ifindex, __u32 size, __u32 has_tag)
{
	__u32 len = size - sizeof(struct ethhdr) - (has_tag ? sizeof(struct tag) : 0);

	/*
	 * Back to where it came from, it would come again. The command refuses that, but a port of
	 * a bond runs the bond's program.
	 */
	if (ifindex == ctx->ingress_ifindex)
		return OUTCOME_POLICY_NO_DEVICE;
	if (!prepare_redirect(ifindex))
		return OUTCOME_POLICY_NO_DEVICE;
	if (size > sizeof(struct ethhdr) + 68 && len > device_mtu(ctx, ifindex))
		return OUTCOME_POLICY_TOO_LONG;
	record_redirect(ctx, ifindex, UNATTRIBUTED);
	if (interface.shows)
		write_down(UNATTRIBUTED, ifindex, 0, 0);
	return OUTCOME_POLICY_FORWARD;
}

/* The outcome of a frame that no rule matched, by the interface's policy. */
static __always_inline __u32 apply_policy(struct hook_ctx *ctx, const struct packet *pkt,
					  __u32 outcome, __u32 slot)
{
	struct policy now = policy_of(slot);
	__u32 prepared, beside;

	if (now.kind == POLICY_DROP)
		return OUTCOME_POLICY_DROP;
	if (now.kind != POLICY_FORWARD)
		return outcome;
	prepared = prepare_forward(ctx, now.ifindex, pkt->ip_offset + packet_length(ctx, pkt),
				   pkt->tags && !tag_beside(ctx, &beside));
	/*
	 * The outcomes of packets that parse has read to the end, and that have an L4 checksum. One
	 * with more tags than parse reads has no protocol yet.
	 */
	if (prepared == OUTCOME_POLICY_FORWARD &&
	    (outcome == OUTCOME_NO_RULE || outcome == OUTCOME_NOT_UNICAST ||
	     outcome == OUTCOME_TAGS))
		keep_checksum_valid(ctx, pkt, now.flags & POLICY_COMPLETES_CHECKSUM);
	return prepared;
}

#endif
