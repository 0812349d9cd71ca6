/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A frame that is forwarded leaves as it came, but for a partial checksum where nobody behind the
 * program completes it: see checksum.h.
 */
#ifndef __FORWARD_H__
#define __FORWARD_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "checksum.h"
#include "interface.h"
#include "parse.h"
#include "scratch.h"

/*
 * Writes down in scratch memory what is known of a frame that may be forwarded. The packet may be
 * one that parse has given up. A fragment's checksum is never partial.
 */
static __always_inline void note_frame(const struct packet *pkt)
{
	struct scratch *mine = this_cpu_scratch();
	struct kept_frame *frame;

	if (!mine) /* never; the verifier doesn't know */
		return;
	frame = &mine->frame;
	frame->size = pkt->size;
	frame->tags = pkt->tags;
	frame->check_offset = 0;
	if (!pkt->check || pkt->fragment != WHOLE)
		return;
	frame->udp = pkt->proto == IPPROTO_UDP;
	frame->check_offset = pkt->l4_offset + (frame->udp ? offsetof(struct udphdr, check)
							   : offsetof(struct tcphdr, check));
	frame->pseudo = fold(pseudo_header(pkt));
	frame->l4_offset = pkt->l4_offset;
	frame->l4_len = pkt->l4_len;
}

/*
 * Gives a partial checksum its value. A complete one that equals the pseudo-header sum by chance
 * already has that value. In generic mode the skb keeps its flag, and a device that completes
 * checksums needs the partial form. The accesses cannot fail, because parse has seen the field.
 * Neither static nor inlined, so that the verifier walks it once.
 */
__noinline __u32 complete_checksum(struct xdp_md *ctx, __u32 device_completes)
{
	struct scratch *mine = this_cpu_scratch();
	const struct kept_frame *frame;
	__u16 check;

	if (!mine) /* never; the verifier doesn't know */
		return 0;
	frame = &mine->frame;
	if (!frame->check_offset || (interface.mode == MODE_SKB && device_completes))
		return 0;
	if (bpf_xdp_load_bytes(ctx, frame->check_offset, &check, sizeof(check)) ||
	    check != frame->pseudo)
		return 0;
	check = ~fold((__u64)frame->pseudo + sum_bytes(ctx, frame->l4_offset, frame->l4_len) +
		      (__u16)~check);
	if (frame->udp && check == 0)
		check = 0xffff;
	bpf_xdp_store_bytes(ctx, frame->check_offset, &check, sizeof(check));
	return 0;
}

#endif
