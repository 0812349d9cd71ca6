/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* XDP, native and generic: see hook.h. */
#ifndef __HOOK_XDP_H__
#define __HOOK_XDP_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "common_maps.h"
#include "interface.h"

#define hook_ctx xdp_md

#define HOOK_SECTION   "xdp"
#define HOOK_PASS      XDP_PASS
#define HOOK_DROP      XDP_DROP
#define HOOK_REDIRECT  XDP_REDIRECT
#define HOOK_SEND_BACK XDP_TX

#define HOOK_KNOWS_PARTIAL false

static __always_inline __u32 frame_size(struct hook_ctx *ctx)
{
	return interface.frags ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;
}

/* Generic XDP sees frames that hold several segments, too, and does not know it. */
static __always_inline __u32 segment_size(struct hook_ctx *ctx)
{
	return 0;
}

/* Generic XDP does not see such tags. */
static __always_inline bool tag_beside(struct hook_ctx *ctx, __u32 *tci)
{
	return false;
}

static __always_inline __u32 tag_type(struct hook_ctx *ctx)
{
	return 0;
}

/* Only a frame's first buffer lies there, and it has all headers. */
static __always_inline bool pull_headers(struct hook_ctx *ctx, __u32 least, __u32 count)
{
	return false;
}

static __always_inline long load_bytes(struct hook_ctx *ctx, __u32 offset, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, offset, to, len);
}

static __always_inline long store_bytes(struct hook_ctx *ctx, __u32 offset, void *from, __u32 len)
{
	return bpf_xdp_store_bytes(ctx, offset, from, len);
}

/* Into a frame that make_room has given more room. */
static __always_inline long store_answer(struct hook_ctx *ctx, __u32 offset, void *from, __u32 len,
					 __u32 room)
{
	return bpf_xdp_store_bytes(ctx, offset, from, len);
}

static __always_inline bool make_room(struct hook_ctx *ctx, __u32 len)
{
	return bpf_xdp_adjust_head(ctx, -(int)len) == 0;
}

/* False where the room stays, so that the frame is not what it was. */
static __always_inline bool undo_room(struct hook_ctx *ctx, __u32 len)
{
	return bpf_xdp_adjust_head(ctx, len) == 0;
}

static __always_inline bool adjust_tail(struct hook_ctx *ctx, int by)
{
	return bpf_xdp_adjust_tail(ctx, by) == 0;
}

/* The egress map has devices, wherever the interface is. */
static __always_inline bool is_away(struct hook_ctx *ctx)
{
	return false;
}

/*
 * Has the kernel redirect the frame to the device once the program returns HOOK_REDIRECT. False
 * where the device is gone. This comes before the first byte is written, so that the packet can
 * still pass as it is.
 */
static __always_inline bool prepare_redirect(__u32 ifindex)
{
	return bpf_redirect_map(&egress, ifindex, 0) == XDP_REDIRECT;
}

#endif
