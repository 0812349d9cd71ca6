/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The frame that speed/traffic.rs describes, with the ports of the next flow. */
#ifndef __FRAMES_H__
#define __FRAMES_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "checksums.h"
#include "prefixes.h"

#define FRAME_WORDS 8
#define MAX_ORDER   65536

__u64 frame[FRAME_WORDS] = {}; /* ports 0 */
__u32 ports_at = 0;	       /* offsets in the frame, of the ports */
__u32 check_at = 0;	       /* and of the checksum over them */
__u32 partial = 0;	       /* 1: that checksum covers the pseudo header only */

/* The ports of the frames, one after the other, as they lie in the frame; then again from the
 * first. */
__u32 order[MAX_ORDER] = {};
__u32 order_length = 0;
__u32 next = 0; /* one CPU writes frames */

/* IPv4 and UDP without a tag. One UDP checksum covers the address, too. */
static __always_inline void set_source(struct iphdr *ip, __sum16 *check)
{
	__be32 source = bpf_htonl(clients ? draw_client() : draw());

	ip->check = replaced(ip->check, ip->saddr, source);
	*check = udp_replaced(*check, ip->saddr, source);
	ip->saddr = source;
}

/*
 * Writes the whole frame, up to what is only payload: the kernel reuses the buffers, and receivers
 * have rewritten them. False where the buffer is too short.
 */
static __always_inline bool write_frame(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *words = data;
	__u32 *ports = data + ports_at % sizeof(frame);
	__sum16 *check = data + check_at % sizeof(frame);
	__u32 flow = order[next % MAX_ORDER];

	if ((void *)(words + FRAME_WORDS) > end || (void *)(ports + 1) > end ||
	    (void *)(check + 1) > end)
		return false;

	for (int i = 0; i < FRAME_WORDS; i++)
		words[i] = frame[i];
	next = next + 1 < order_length ? next + 1 : 0;
	*ports = flow;
	if (!partial)
		*check = udp_replaced(*check, 0, flow);
	if (prefixes || clients)
		set_source(data + sizeof(struct ethhdr), check);
	return true;
}

#endif
