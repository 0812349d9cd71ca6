/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * tc, on arrival: see hook.h. Frames are skbs. One may hold several segments, the device or the
 * kernel has taken the outer VLAN tag out of it, and the skb says what is known of its checksums:
 *
 *   that of the segment is partial, and whoever sends the frame completes it; or
 *   the sum over all from the network header on, which has to stay right while bytes change.
 *
 * The kernel unshares an skb before the program writes to it. Where it has no memory for that, it
 * drops the packet, before the program sees it.
 */
#ifndef __HOOK_TC_H__
#define __HOOK_TC_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/limits.h"
#include "interface.h"
#include "maps.h"

#define hook_ctx __sk_buff

#define HOOK_SECTION "tc"
/* tcx has other names for the same numbers. */
#define HOOK_PASS      TC_ACT_UNSPEC /* to the next program, or on as if there were none */
#define HOOK_DROP      TC_ACT_SHOT
#define HOOK_REDIRECT  TC_ACT_REDIRECT
#define HOOK_SEND_BACK TC_ACT_REDIRECT

#define HOOK_KNOWS_PARTIAL true

static __always_inline __u32 frame_size(struct hook_ctx *ctx)
{
	return ctx->len;
}

static __always_inline __u32 segment_size(struct hook_ctx *ctx)
{
	return ctx->gso_size;
}

static __always_inline bool tag_beside(struct hook_ctx *ctx, __u32 *tci)
{
	*tci = ctx->vlan_tci;
	return ctx->vlan_present;
}

/* What such a tag has in front, as it lies in a frame. */
static __always_inline __u32 tag_type(struct hook_ctx *ctx)
{
	return ctx->vlan_proto;
}

/* Where fewer than `least` bytes lie there, and the frame has more, so that `count` do. */
static __always_inline bool pull_headers(struct hook_ctx *ctx, __u32 least, __u32 count)
{
	__u32 linear = ctx->data_end - ctx->data, len = ctx->len;

	if (linear >= least || linear >= len)
		return false;
	return bpf_skb_pull_data(ctx, count < len ? count : len) == 0;
}

static __always_inline long load_bytes(struct hook_ctx *ctx, __u32 offset, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, offset, to, len);
}

/* The skb's sum, if it has one, begins behind the Ethernet header. */
static __always_inline long store_bytes(struct hook_ctx *ctx, __u32 offset, void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, offset, from, len,
				   offset < sizeof(struct ethhdr) ? 0 : BPF_F_RECOMPUTE_CSUM);
}

/*
 * Into a frame that make_room has given more room. The skb's sum then begins behind the room and
 * the Ethernet header. What is stored ends there, or one or two tags behind it.
 */
static __always_inline long store_answer(struct hook_ctx *ctx, __u32 offset, void *from, __u32 len,
					 __u32 room)
{
	__u32 summed = sizeof(struct ethhdr) + room, tag = 4;

	if (offset + len <= summed)
		return bpf_skb_store_bytes(ctx, offset, from, len, 0);
	if (offset + len - summed == tag)
		return bpf_skb_store_bytes(ctx, offset, from, len - tag, 0)
			       ?: store_bytes(ctx, offset + len - tag, from + len - tag, tag);
	return bpf_skb_store_bytes(ctx, offset, from, len - 2 * tag, 0)
		       ?: store_bytes(ctx, offset + len - 2 * tag, from + len - 2 * tag, 2 * tag);
}

static __always_inline bool make_room(struct hook_ctx *ctx, __u32 len)
{
	return bpf_skb_change_head(ctx, len, 0) == 0;
}

/* No call of the kernel does that. */
static __always_inline bool undo_room(struct hook_ctx *ctx, __u32 len)
{
	return false;
}

static __always_inline bool adjust_tail(struct hook_ctx *ctx, int by)
{
	return bpf_skb_change_tail(ctx, ctx->len + by, 0) == 0;
}

/* The tick in which it was looked at last where the interface is, and in the last bit what is_away
 * says. */
__u64 whereabouts = 0;

/* Reads the number of the network namespace where the kernel keeps it. 0: it cannot be read. */
static __always_inline __u32 read_netns(struct hook_ctx *ctx)
{
	void *device = NULL, *net = NULL;
	__u32 number = 0;

	if (bpf_probe_read_kernel(&device, sizeof(device), (void *)ctx + interface.to_skb_device) ||
	    bpf_probe_read_kernel(&net, sizeof(net), device + interface.to_net))
		return 0;
	bpf_probe_read_kernel(&number, sizeof(number), net + interface.to_inum);
	return number;
}

/* Neither static nor inlined, so that what it has on the stack is gone when others run. */
__noinline __u32 look_around(struct hook_ctx *ctx)
{
	__u32 number = read_netns(ctx), away = number && number != interface.netns;

	*(volatile __u64 *)&whereabouts = bpf_jiffies64() << 1 | away;
	return away;
}

/*
 * The kernel looks for the egress device in the network namespace that the interface is in now. It
 * is asked once in a tick (1 to 10 ms): an interface that is moved is down first.
 */
static __always_inline bool is_away(struct hook_ctx *ctx)
{
	__u64 word = *(volatile __u64 *)&whereabouts;

	if (!interface.to_skb_device)
		return false;
	return word >> 1 == bpf_jiffies64() ? word & 1 : look_around(ctx);
}

/* Whether the kernel may hand frames to a device's other end, past its queue. It drops those whose
 * other end is in the same network namespace. */
static __always_inline bool is_paired(__u32 ifindex)
{
	__u32 index = ifindex % PAIRED_ENTRIES;
	volatile __u32 *entry = bpf_map_lookup_elem(&paired, &index);

	return entry && *entry == ifindex;
}

/*
 * Has the kernel redirect the frame to the device once the program returns HOOK_REDIRECT. False
 * where the device is gone. This comes before the first byte is written, so that the packet can
 * still pass as it is.
 */
static __always_inline bool prepare_redirect(__u32 ifindex)
{
	if (!bpf_map_lookup_elem(&egress, &ifindex))
		return false;
	if (is_paired(ifindex))
		bpf_redirect_peer(ifindex, 0);
	else
		bpf_redirect(ifindex, 0);
	return true;
}

#endif
