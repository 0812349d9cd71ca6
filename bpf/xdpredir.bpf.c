// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The XDP program: parse, decide on a backend, rewrite, count. Every packet leaves in verdict(). */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/backend.h"
#include "abi/outcomes.h"
#include "balance.h"
#include "counters.h"
#include "egress_checks.h"
#include "fragment.h"
#include "interface.h"
#include "ledger.h"
#include "parse.h"
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

/* Selects a backend and prepares the redirect to it. The packet is not changed. */
static __always_inline __u32 decide(const struct packet *pkt, const struct backend **backend)
{
	__u32 outcome;

	if (pkt->fragment == LATER)
		outcome = follow_first(pkt, backend);
	else
		outcome = select_backend(pkt, backend);
	if (outcome == OUTCOME_NO_RULE)
		return unmatched(pkt);
	if (!outcome && !*backend) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	return outcome;
}

/* Rewrites the packet. What can make it pass comes before the first byte that is written. */
static __always_inline __u32 act(struct xdp_md *ctx, const struct packet *pkt,
				 const struct backend *backend)
{
	if (!tags_allow(pkt, backend))
		return OUTCOME_TAGS;
	if (!ttl_allows(pkt, backend))
		return OUTCOME_TTL;
	if (!mtu_allows(ctx, pkt, backend))
		return refuse_too_long(ctx, pkt, backend);
	if (pkt->fragment == FIRST && !remember_first(pkt, backend))
		return OUTCOME_LATE_FIRST;
	if (!rewrite(ctx, pkt, backend))
		return OUTCOME_NO_HEADROOM;
	return OUTCOME_REDIRECTED;
}

static __always_inline __u32 redirect(struct xdp_md *ctx, const struct packet *pkt)
{
	const struct backend *backend = NULL;
	__u32 outcome = decide(pkt, &backend);

	if (outcome)
		return outcome;
	outcome = act(ctx, pkt, backend);
	if (outcome != OUTCOME_REDIRECTED)
		return outcome;
	record_redirect(backend->ifindex, backend->counter);
	count_backend(backend, pkt->size);
	return OUTCOME_REDIRECTED;
}

/* A packet that passes has not one byte changed. One that is changed and cannot be sent is dropped.
 */
static __always_inline int verdict(__u32 outcome)
{
	if (outcome == OUTCOME_REDIRECTED || outcome == OUTCOME_POLICY_FORWARD)
		return XDP_REDIRECT;
	if (outcome == OUTCOME_TOO_BIG_SENT)
		return interface.answers == ANSWERS_REDIRECTED ? XDP_REDIRECT : XDP_TX;
	if (outcome == OUTCOME_NO_HEADROOM || outcome == OUTCOME_TOO_LONG_DROPPED ||
	    is_dropped_by_policy(outcome))
		return XDP_DROP;
	return XDP_PASS;
}

SEC("xdp")
int xdpredir(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet pkt = {
		.size = interface.frags ? bpf_xdp_get_buff_len(ctx) : end - data,
	};
	__u32 outcome = parse(ctx, &pkt, data, end);

	if (!outcome) {
		outcome = redirect(ctx, &pkt);
		if (outcome != OUTCOME_REDIRECTED && pkt.fragment == FIRST)
			forget_first(&pkt);
	}
	if (is_unmatched(outcome))
		outcome = apply_policy(ctx, &pkt, outcome);
	count_outcome(outcome, pkt.size);
	return verdict(outcome);
}

char _license[] SEC("license") = "Dual BSD/GPL";
