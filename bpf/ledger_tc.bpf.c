// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The ledger behind the tc hook: counts the skbs that the kernel drops after the program had
 * redirected them. It runs for every skb of the host that is dropped, so it checks first that the
 * skb is ours.
 */
#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi/ledger.h"
#include "dropped_skb.h"
#include "label.h"
#include "ledger_failures.h"

/* The frame of several segments that this CPU lost last: its backend and number. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last_lost SEC(".maps");

static __always_inline bool has_label(const struct sk_buff *skb)
{
	__u32 check = label_check(label_key(), label_word(skb, LABEL_WAY),
				  label_word(skb, LABEL_BACKEND));

	return label_word(skb, LABEL_CHECK) == check;
}

/* Whether a frame was, of which this is a segment: it is lost once. */
static __always_inline bool is_counted(const struct sk_buff *skb)
{
	__u64 frame = (__u64)label_word(skb, LABEL_BACKEND) << 32 |
		      (label_word(skb, LABEL_WAY) & LABEL_NUMBER);
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&last_lost, &zero);

	if (!(label_word(skb, LABEL_BACKEND) & LABEL_SEGMENTS) || !last)
		return false;
	if (*last == frame)
		return true;
	*last = frame;
	return false;
}

static __always_inline __u32 counter_of(const struct sk_buff *skb)
{
	__u32 counter = label_word(skb, LABEL_BACKEND) & LABEL_COUNTER;

	return counter == LABEL_COUNTER ? UNATTRIBUTED : counter;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(skb_dropped, struct sk_buff *skb, void *location, enum skb_drop_reason why)
{
	if (!has_label(skb) || !is_on_its_way(skb) || may_be_sent(skb, why) || is_counted(skb))
		return 0;
	record_failures(counter_of(skb), BY_DROP_REASON | reason_of_drop(skb), error_of_drop(why),
			1);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
