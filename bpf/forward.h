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

/* The L4 checksum of a frame that leaves with the addresses and ports that it came with. */
struct kept_checksum {
	__u32 offset; /* of the field, from the start of the frame; 0: there is none */
	__u32 pseudo; /* the folded sum of the pseudo-header, which a partial one equals */
	__u32 l4_offset;
	__u32 l4_len;
	__u32 udp;
};

/* That of a fragment is never partial. The packet may be one that parse has given up. */
static __always_inline struct kept_checksum kept_checksum(const struct packet *pkt)
{
	struct kept_checksum kept = {};

	if (!pkt->check || pkt->fragment != WHOLE)
		return kept;
	kept.udp = pkt->proto == IPPROTO_UDP;
	kept.offset = pkt->l4_offset +
		      (kept.udp ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));
	kept.pseudo = fold(pseudo_header(pkt));
	kept.l4_offset = pkt->l4_offset;
	kept.l4_len = pkt->l4_len;
	return kept;
}

/*
 * Gives a partial checksum its value. A complete one that equals the pseudo-header sum by chance
 * already has that value. In generic mode the skb keeps its flag, and a device that completes
 * checksums needs the partial form. The accesses cannot fail, because parse has seen the field.
 */
static __always_inline void complete_checksum(struct xdp_md *ctx, const struct kept_checksum *kept,
					      bool device_completes)
{
	__u32 segment;
	__u16 check;

	if (!kept->offset || (interface.mode == MODE_SKB && device_completes))
		return;
	if (bpf_xdp_load_bytes(ctx, kept->offset, &check, sizeof(check)) || check != kept->pseudo)
		return;
	segment = sum_bytes(ctx, kept->l4_offset, kept->l4_len);
	check = ~fold((__u64)kept->pseudo + segment + (__u16)~check);
	if (kept->udp && check == 0)
		check = 0xffff;
	bpf_xdp_store_bytes(ctx, kept->offset, &check, sizeof(check));
}

#endif
