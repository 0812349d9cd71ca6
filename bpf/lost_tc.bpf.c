// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Tells a capture which of its frames the kernel dropped after the program had redirected them at
 * the tc hook. Like the ledger there, it runs for every skb of the host that is dropped.
 */
#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi/capture.h"
#include "abi/ledger.h"
#include "dropped_skb.h"
#include "label.h"
#include "labelled.h"
#include "lost.h"

/*
 * The frame that has the label of this skb, if this capture has written that. A label is no proof
 * where its number was used again meanwhile. That the skb is the same is one; but the segments of a
 * frame are others.
 */
static __always_inline struct labelled *frame_of(const struct sk_buff *skb)
{
	__u32 way = sound_way(label_word(skb, LABEL_WAY));
	__u32 backend = label_word(skb, LABEL_BACKEND);
	__u32 number = captured_number(way, backend);
	struct labelled *frame = bpf_map_lookup_elem(&labelled, &number);

	if (!frame || frame->way != way || frame->backend != backend ||
	    frame->check != label_word(skb, LABEL_CHECK))
		return NULL;
	return backend & LABEL_SEGMENTS || frame->skb == (__u64)skb ? frame : NULL;
}

/* The number of the packet. UNATTRIBUTED: the first segment that was lost has been told. */
static __always_inline __u32 take_number(struct labelled *frame)
{
	__u32 number = frame->number;

	return __sync_val_compare_and_swap(&frame->number, number, UNATTRIBUTED) == number
		       ? number
		       : UNATTRIBUTED;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(skb_dropped, struct sk_buff *skb, void *location, enum skb_drop_reason why)
{
	struct labelled *frame = frame_of(skb);
	__u32 number;

	if (!frame || !is_on_its_way(skb) || may_be_sent(skb, why))
		return 0;
	number = take_number(frame);
	if (number != UNATTRIBUTED)
		tell_lost(number, BY_DROP_REASON | reason_of_drop(skb), error_of_drop(why));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
