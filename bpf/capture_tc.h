/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * tc: numbers the label of a frame that was captured, and writes down what has that number, so that
 * a tracing program knows which packet the kernel drops.
 */
#ifndef __CAPTURE_TC_H__
#define __CAPTURE_TC_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "hook.h"
#include "label.h"
#include "labelled.h"
#include "ledger.h"

/* Of all interfaces that are captured together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next_label SEC(".maps");

static __always_inline __u32 new_label(void)
{
	__u32 zero = 0, *next = bpf_map_lookup_elem(&next_label, &zero);

	if (!next) /* never; the verifier doesn't know */
		return 0;
	return FIRST_LABEL + __sync_fetch_and_add(next, 1) % USABLE_LABELS;
}

/* record_redirect has labelled it. The program has been given the skb itself. */
static __always_inline void label_captured(struct hook_ctx *ctx, __u32 number)
{
	__u32 label = new_label();
	struct labelled *frame = bpf_map_lookup_elem(&labelled, &label);

	if (!frame) /* never; the verifier doesn't know */
		return;
	frame->skb = (__u64)ctx;
	frame->way = captured_way(ctx->cb[LABEL_WAY], label);
	frame->backend = captured_backend(ctx->cb[LABEL_BACKEND], label);
	frame->check = seal(frame->way, frame->backend);
	frame->number = number;
	ctx->cb[LABEL_WAY] = frame->way;
	ctx->cb[LABEL_BACKEND] = frame->backend;
	ctx->cb[LABEL_CHECK] = frame->check;
}

#endif
