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
#include "hook.h"
#include "interface.h"
#include "parse.h"

/* The folded sum of the pseudo-header: see pseudo_header. parse has seen the header. */
static __always_inline __u16 read_pseudo_header(struct hook_ctx *ctx, __u32 ip_offset, __u32 l4_len,
						__u32 proto)
{
	__u64 sum = bpf_htons(proto) + bpf_htons(l4_len);
	__u8 *version = bytes_at(ctx, ip_offset, 1);
	void *addrs;

	if (version && *version >> 4 == 4) {
		addrs = bytes_at(ctx, ip_offset + offsetof(struct iphdr, saddr), 8);
		return addrs ? fold(bpf_csum_diff(NULL, 0, addrs, 8, sum)) : 0;
	}
	addrs = bytes_at(ctx, ip_offset + offsetof(struct ipv6hdr, saddr), 32);
	return addrs ? fold(bpf_csum_diff(NULL, 0, addrs, 32, sum)) : 0;
}

/*
 * Gives a partial checksum, which equals the pseudo-header sum, its value. A complete one that
 * equals it by chance already has that value. Neither static nor inlined, so that the verifier
 * checks it once, by itself. It takes offsets in place of pointers: for each pointer that a caller
 * keeps until this call, the verifier walks more paths through the code before the call.
 */
__noinline __u32 complete_checksum(struct hook_ctx *ctx, __u32 ip_offset, __u32 l4_offset,
				   __u32 l4_len, __u32 proto)
{
	__u32 field = l4_offset;
	__sum16 *check, value;
	__u16 pseudo;

	if (proto == IPPROTO_UDP)
		field += offsetof(struct udphdr, check);
	else if (proto == IPPROTO_TCP)
		field += offsetof(struct tcphdr, check);
	else
		return 0;
	check = bytes_at(ctx, field, sizeof(*check));
	pseudo = read_pseudo_header(ctx, ip_offset, l4_len, proto);
	if (!check || *check != pseudo)
		return 0;
	/* The segment's sum has that of the pseudo-header in it, in the field. */
	value = ~fold(sum_bytes(ctx, l4_offset, l4_len));
	/* 0 would say that the sender of a datagram computed none (RFC 768). */
	*check = value == 0 && proto == IPPROTO_UDP ? 0xffff : value;
	return 0;
}

/*
 * For a whole packet, or a fragment, whose checksum is never partial, that parse has read to the
 * end. In generic mode the skb keeps its flag, and a device that completes checksums needs the
 * partial form. At the tc hook every device gets what it needs.
 */
static __always_inline void keep_checksum_valid(struct hook_ctx *ctx, const struct packet *pkt,
						bool device_completes)
{
	if (HOOK_KNOWS_PARTIAL || (interface.mode == MODE_SKB && device_completes))
		return;
	if (pkt->fragment == WHOLE)
		complete_checksum(ctx, pkt->ip_offset, pkt->l4_offset, pkt->l4_len, pkt->proto);
}

#endif
