/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* tc: labels each redirected frame for the ledger. */
#ifndef __LEDGER_TC_H__
#define __LEDGER_TC_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "hook.h"
#include "interface.h"
#include "label.h"
#include "ledger_maps.h"

/* Of the frames with several segments. CPUs may give the same number, which tells frames apart that
 * one CPU loses one after the other. */
__u8 frame_number = 0;

/* A stand-in labels the frames that it captures, too. */
#ifdef STAND_IN
#define LABELS_ALL interface.shows
#else
#define LABELS_ALL false
#endif

/* Without a ledger, no label is to be counted. */
static __always_inline __u32 seal(__u32 way, __u32 backend)
{
	__u32 check = label_check(label_key(), way, backend);

	return LABELS_ALL && interface.ledger != LEDGER_ON ? ~check : check;
}

static __always_inline void record_redirect(struct hook_ctx *ctx, __u32 ifindex, __u32 counter)
{
	__u32 way = ctx->ingress_ifindex << 16, backend = counter;

	if (!LABELS_ALL && interface.ledger != LEDGER_ON)
		return;
	if (segment_size(ctx)) {
		way |= (__u32)frame_number++ << 8;
		backend |= LABEL_SEGMENTS;
	}
	ctx->cb[LABEL_EGRESS] = ifindex;
	ctx->cb[LABEL_WAY] = way;
	ctx->cb[LABEL_BACKEND] = backend;
	ctx->cb[LABEL_CHECK] = seal(way, backend);
}

#endif
