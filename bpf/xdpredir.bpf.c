// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
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
#include "rewrite.h"

/* OUTCOME_REDIRECTED: rewritten and aimed at a backend. Any other: see verdict(). */
static __always_inline __u32 redirect(struct xdp_md *ctx, struct packet *pkt)
{
	const struct backend *backend = NULL;
	__u32 outcome;

	if (pkt->fragment == LATER)
		outcome = follow_first(pkt, &backend);
	else
		outcome = select_backend(pkt, &backend);
	if (outcome)
		return outcome;
	if (!backend) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	if (!outlives(pkt, backend))
		return OUTCOME_TTL;
	if (!fits(ctx, pkt, backend))
		return OUTCOME_TOO_LONG;

	if (pkt->fragment == FIRST && !lead(pkt, backend))
		return OUTCOME_LATE_FIRST;
	if (!rewrite(ctx, pkt, backend))
		return OUTCOME_NO_HEADROOM;
	account(backend);
	count_backend(backend, pkt->size);
	return OUTCOME_REDIRECTED;
}

/* A packet that passes has not one byte changed; one that can't is dropped, and counted. */
static __always_inline int verdict(__u32 outcome)
{
	if (outcome == OUTCOME_REDIRECTED)
		return XDP_REDIRECT;
	return outcome == OUTCOME_NO_HEADROOM ? XDP_DROP : XDP_PASS;
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
	count(&outcomes, outcome, pkt.size);
	return verdict(outcome);
}

char _license[] SEC("license") = "Dual BSD/GPL";
