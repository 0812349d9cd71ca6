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
#include "ledger.h"
#include "maps.h"
#include "scratch.h"

/*
 * The outcomes that mean that no rule matched. What a rule matched and cannot be sent is not the
 * policy's.
 */
#define UNMATCHED                                                                                  \
	(1u << OUTCOME_NO_RULE | 1u << OUTCOME_NOT_IP | 1u << OUTCOME_NOT_UDP_TCP |                \
	 1u << OUTCOME_TRUNCATED | 1u << OUTCOME_MALFORMED | 1u << OUTCOME_TAGS |                  \
	 1u << OUTCOME_EXTENSION_HEADERS | 1u << OUTCOME_FRAGMENT | 1u << OUTCOME_NOT_UNICAST)

static __always_inline bool is_unmatched(__u32 outcome)
{
	return UNMATCHED >> outcome & 1;
}

/* One read of one word: the command may change the policy meanwhile. */
static __always_inline struct policy current_policy(void)
{
	__u32 zero = 0;
	volatile __u64 *value = bpf_map_lookup_elem(&policy, &zero);
	__u64 word = value ? *value : POLICY_PASS;
	struct policy now;

	__builtin_memcpy(&now, &word, sizeof(now));
	return now;
}

/* Whether the device carries the frame. One VLAN tag is not part of the MTU. */
static __always_inline bool fits_device(struct xdp_md *ctx, __u32 ifindex)
{
	struct scratch *mine = this_cpu_scratch();
	__u32 length;

	if (!mine || mine->frame.size <= sizeof(struct ethhdr) + 68)
		return true;
	length = mine->frame.size - sizeof(struct ethhdr);
	if (mine->frame.tags)
		length -= sizeof(struct tag);
	return length <= device_mtu(ctx, ifindex);
}

static __always_inline __u32 forward_by_policy(struct xdp_md *ctx, const struct policy *now)
{
	/*
	 * Back to where it came from, it would come again. The command refuses that, but a port of
	 * a bond runs the bond's program.
	 */
	if (now->ifindex == ctx->ingress_ifindex)
		return OUTCOME_POLICY_NO_DEVICE;
	if (bpf_redirect_map(&egress, now->ifindex, 0) != XDP_REDIRECT)
		return OUTCOME_POLICY_NO_DEVICE;
	if (!fits_device(ctx, now->ifindex))
		return OUTCOME_POLICY_TOO_LONG;
	complete_checksum(ctx, now->flags & POLICY_COMPLETES_CHECKSUM);
	record_redirect(now->ifindex, UNATTRIBUTED);
	return OUTCOME_POLICY_FORWARD;
}

/*
 * The outcome of a frame that no rule matched, by the interface's policy. Scratch memory says what
 * is known of the frame. Neither static nor inlined, so that the verifier walks it once and not for
 * every path that ends without a rule.
 */
__noinline __u32 apply_policy(struct xdp_md *ctx, __u32 outcome)
{
	struct policy now = current_policy();

	if (now.kind == POLICY_DROP)
		return OUTCOME_POLICY_DROP;
	return now.kind == POLICY_FORWARD ? forward_by_policy(ctx, &now) : outcome;
}

static __always_inline bool is_dropped_by_policy(__u32 outcome)
{
	return outcome == OUTCOME_POLICY_DROP || outcome == OUTCOME_POLICY_NO_DEVICE ||
	       outcome == OUTCOME_POLICY_TOO_LONG;
}

#endif
