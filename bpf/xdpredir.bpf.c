// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The XDP program: parse, decide by the rules, act, count. Every packet leaves in verdict(). */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "abi/outcomes.h"
#include "balance.h"
#include "counters.h"
#include "egress_checks.h"
#include "fragment.h"
#include "interface.h"
#include "ledger.h"
#include "parse.h"
#include "plain.h"
#include "policy.h"
#include "rewrite.h"
#include "too_big.h"

/* The outcome of a packet that no rule takes. */
static __always_inline __u32 unmatched(const struct packet *pkt)
{
	if (!has_ports(pkt))
		return OUTCOME_NOT_UDP_TCP;
	return pkt->not_unicast_dst || pkt->not_unicast_src ? OUTCOME_NOT_UNICAST : OUTCOME_NO_RULE;
}

/* Finds what becomes of the packet, and prepares it. The packet is not changed. */
static __always_inline __u32 decide(const struct packet *pkt, struct decision *decision)
{
	__u32 outcome;

	if (pkt->fragment == LATER)
		outcome = follow_first(decision);
	else
		outcome = decide_by_rules(pkt, decision);
	if (outcome == OUTCOME_NO_RULE)
		return unmatched(pkt);
	if (!outcome && !decision->action) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	return outcome;
}

/* Rewrites the packet. What can make it pass comes before the first byte that is written. */
static __always_inline __u32 redirect(struct xdp_md *ctx, const struct packet *pkt,
				      const struct decision *decision)
{
	const struct action *action = decision->action;

	if (!tags_allow(pkt, action))
		return OUTCOME_TAGS;
	if (!ttl_allows(pkt, action))
		return OUTCOME_TTL;
	if (!mtu_allows(ctx, pkt, action))
		return OUTCOME_TOO_LONG;
	if (pkt->fragment == FIRST && !remember_first(decision))
		return OUTCOME_LATE_FIRST;
	if (!rewrite(ctx, pkt, action))
		return OUTCOME_NO_HEADROOM;
	return OUTCOME_REDIRECTED;
}

/* Sends the frame out of a device as it is, but for the MAC addresses where the rule has some. */
static __always_inline __u32 forward(struct xdp_md *ctx, const struct packet *pkt,
				     const struct decision *decision)
{
	const struct action *action = decision->action;

	/* Back to where it came from, it would come again, with the same TTL. */
	if (action->ifindex == ctx->ingress_ifindex)
		return OUTCOME_NO_DEVICE;
	if (!mtu_allows(ctx, pkt, action))
		return OUTCOME_TOO_LONG;
	if (pkt->fragment == FIRST && !remember_first(decision))
		return OUTCOME_LATE_FIRST;
	if (action->flags & REWRITE_MAC)
		__builtin_memcpy(pkt->eth, action->frame, sizeof(action->frame));
	keep_checksum_valid(ctx, pkt, action->flags & REWRITE_COMPLETES_CHECKSUM);
	return OUTCOME_FORWARDED;
}

/*
 * For a rule that passes or drops. The later fragments of a datagram follow the first one, or they
 * would meet another rule or the policy.
 */
static __always_inline __u32 settle(const struct packet *pkt, const struct decision *decision)
{
	if (pkt->fragment == FIRST)
		remember_first(decision);
	return decision->action->kind == ACTION_DROP ? OUTCOME_DROPPED_BY_RULE
						     : OUTCOME_PASSED_BY_RULE;
}

static __always_inline bool is_sent(__u32 outcome)
{
	return outcome == OUTCOME_REDIRECTED || outcome == OUTCOME_FORWARDED;
}

static __always_inline bool is_by_rule(__u32 outcome)
{
	return is_sent(outcome) || outcome == OUTCOME_PASSED_BY_RULE ||
	       outcome == OUTCOME_DROPPED_BY_RULE;
}

static __always_inline __u32 act(struct xdp_md *ctx, const struct packet *pkt,
				 const struct decision *decision)
{
	__u32 outcome;

	if (decision->action->kind == ACTION_REDIRECT)
		outcome = redirect(ctx, pkt, decision);
	else if (decision->action->kind == ACTION_FORWARD)
		outcome = forward(ctx, pkt, decision);
	else
		outcome = settle(pkt, decision);
	if (outcome == OUTCOME_TOO_LONG)
		return refuse_too_long(ctx, pkt, decision->action);
	if (is_sent(outcome))
		record_redirect(decision->action->ifindex, decision->counter);
	if (is_by_rule(outcome))
		count_action(decision->counter, pkt->size);
	return outcome;
}

static __always_inline __u32 decide_and_act(struct xdp_md *ctx, const struct packet *pkt)
{
	struct decision decision = {};
	__u32 outcome = decide(pkt, &decision);

	return outcome ?: act(ctx, pkt, &decision);
}

/* A packet that passes has not one byte changed. One that is changed and cannot be sent is dropped.
 */
static __always_inline int verdict(__u32 outcome)
{
	if (is_sent(outcome) || outcome == OUTCOME_POLICY_FORWARD)
		return XDP_REDIRECT;
	if (outcome == OUTCOME_TOO_BIG_SENT)
		return interface.answers == ANSWERS_REDIRECTED ? XDP_REDIRECT : XDP_TX;
	if (outcome == OUTCOME_NO_HEADROOM || outcome == OUTCOME_DROPPED_BY_RULE ||
	    outcome == OUTCOME_TOO_LONG_DROPPED || is_dropped_by_policy(outcome))
		return XDP_DROP;
	return XDP_PASS;
}

static __always_inline __u32 frame_size(struct xdp_md *ctx)
{
	return interface.frags ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;
}

/*
 * The outcome of any packet. Neither static nor inlined, so that the verifier walks what comes
 * after it once, and not for every path through it.
 */
__noinline __u32 judge(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet pkt = {.size = frame_size(ctx)};
	__u32 outcome = parse(ctx, &pkt, data, end);

	if (!outcome) {
		if (pkt.fragment != WHOLE)
			name_datagram(&pkt);
		outcome = decide_and_act(ctx, &pkt);
		if (pkt.fragment == FIRST && !is_by_rule(outcome))
			forget_first();
	}
	return is_unmatched(outcome) ? apply_policy(ctx, &pkt, outcome) : outcome;
}

/* The same for what most packets are. */
static __always_inline __u32 judge_plain(struct xdp_md *ctx, const struct packet *pkt)
{
	__u32 outcome = decide_and_act(ctx, pkt);

	return is_unmatched(outcome) ? apply_policy(ctx, pkt, outcome) : outcome;
}

SEC("xdp")
int xdpredir(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet pkt = {.size = frame_size(ctx)};
	__u32 outcome;

	outcome = parse_plain(&pkt, data, end) ? judge_plain(ctx, &pkt) : judge(ctx);
	if (outcome == OUTCOME_TOO_BIG_SENT)
		outcome = answer_too_big(ctx);
	count_outcome(outcome, pkt.size);
	return verdict(outcome);
}

char _license[] SEC("license") = "Dual BSD/GPL";
