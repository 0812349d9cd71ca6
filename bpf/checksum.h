/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Checksums for changed addresses and ports. All sums are ones' complement sums of 16-bit words in
 * network byte order, held in a wider register.
 *
 * A sender with checksum offload leaves the L4 checksum partial: the field holds the folded sum of
 * the pseudo-header, not inverted, and a flag of the skb makes a device or the stack complete it
 * later. An XDP program sees the field but not the flag.
 */
#ifndef __CHECKSUM_H__
#define __CHECKSUM_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "hook.h"
#include "interface.h"
#include "parse.h"
#include "scratch.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* RFC 1624, equation 3. change is the sum of the old words, inverted, and the new words. */
static __always_inline __sum16 update_checksum(__sum16 check, __u64 change)
{
	return ~fold((__u64)(__u16)~check + change);
}

/*
 * The sum of len bytes of the frame from offset, by copies: for frames in several buffers, and long
 * ones. Neither static nor inlined, so that the verifier walks its loop once and not for every path
 * that leads to it.
 */
__noinline __u32 sum_copied(struct hook_ctx *ctx, __u32 offset, __u32 len)
{
	struct scratch *mine = this_cpu_scratch();
	__s64 sum = 0;

	if (!mine) /* never; the verifier doesn't know */
		return 0;
	for (int i = 0; i < 0xffff / SUM_CHUNK && len >= SUM_CHUNK; i++) {
		if (load_bytes(ctx, offset, mine->chunk, SUM_CHUNK))
			return 0;
		sum = bpf_csum_diff(NULL, 0, mine->chunk, SUM_CHUNK, sum);
		offset += SUM_CHUNK;
		len -= SUM_CHUNK;
	}
	if (len == 0)
		return sum;
	/*
	 * Verifiers before Linux 7.0 refuse the read unless arithmetic bounds its length. A
	 * comparison does not, because the compiler compares a copy of the register. The barrier
	 * hides from the compiler that the arithmetic changes nothing.
	 */
	len--;
	asm volatile("" : "+r"(len));
	len &= SUM_CHUNK - 1;
	mine->chunk[len / 4] = 0; /* the word that the data ends in */
	if (load_bytes(ctx, offset, mine->chunk, len + 1))
		return 0;
	return bpf_csum_diff(NULL, 0, mine->chunk, (len & ~3u) + 4, sum);
}

/*
 * NULL unless the first buffer of the frame has so many bytes from offset. The mask is larger than
 * any buffer. Without it the verifier would know a different range of offsets after each step of
 * sum_bytes, and walk all combinations of them.
 */
static __always_inline void *bytes_at(struct hook_ctx *ctx, __u32 offset, __u32 count)
{
	void *end = (void *)(long)ctx->data_end;
	void *at = (void *)(long)ctx->data + (offset & 0x3fff);

	return at + count <= end ? at : NULL;
}

/* Adds count bytes, as many as are read at once: 4-byte words, which need no alignment. */
#define ADD_WORDS(count)                                                                           \
	if (len & (count)) {                                                                       \
		at = bytes_at(ctx, offset, count);                                                 \
		if (!at)                                                                           \
			goto copied;                                                               \
		for (int i = 0; i < (count) / 4; i++)                                              \
			sum += ((__u32 *)at)[i];                                                   \
		offset += count;                                                                   \
	}

/* The same by a call of the kernel, which takes at most 512 bytes. */
#define ADD_BLOCK(count, condition)                                                                \
	if (condition) {                                                                           \
		at = bytes_at(ctx, offset, count);                                                 \
		if (!at)                                                                           \
			goto copied;                                                               \
		sum = bpf_csum_diff(NULL, 0, at, count, sum);                                      \
		offset += count;                                                                   \
	}

/*
 * The sum of len bytes of the frame from offset, at most 65,535. A last odd byte counts as if a
 * zero followed it (RFC 1071). The reads cannot fail, because parse has checked that the frame has
 * the whole segment. The bytes are summed where they are: first blocks, then what the bits of the
 * length say, without a loop, because verifiers refuse loops over pointers into a packet.
 */
__noinline __u32 sum_bytes(struct hook_ctx *ctx, __u32 offset, __u32 len)
{
	__u32 start = offset;
	__u64 sum = 0;
	void *at;

	if (len >= 2048)
		goto copied;
	ADD_BLOCK(512, len >= 512)
	ADD_BLOCK(512, len >= 1024)
	ADD_BLOCK(512, len >= 1536)
	ADD_BLOCK(256, len & 256)
	ADD_BLOCK(128, len & 128)
	ADD_BLOCK(64, len & 64)
	ADD_WORDS(32)
	ADD_WORDS(16)
	ADD_WORDS(8)
	ADD_WORDS(4)
	if (len & 2) {
		at = bytes_at(ctx, offset, 2);
		if (!at)
			goto copied;
		sum += *(__u16 *)at;
		offset += 2;
	}
	if (len & 1) {
		at = bytes_at(ctx, offset, 1);
		if (!at)
			goto copied;
		sum += bpf_htons(*(__u8 *)at << 8);
	}
	return fold(sum);
copied:
	return sum_copied(ctx, start, len);
}

#undef ADD_WORDS
#undef ADD_BLOCK

static __always_inline __u64 sum_words(const __be32 *words, int count)
{
	__u64 sum = 0;

	for (int i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* The pseudo-header of RFC 768, RFC 9293 and RFC 8200, section 8.1. */
static __always_inline __u64 pseudo_header(const struct packet *pkt)
{
	__u64 sum = bpf_htons(pkt->proto) + bpf_htons(pkt->l4_len);

	if (pkt->family == FAMILY_IPV4)
		return sum + (__u32)pkt->flow.word[1] + (pkt->flow.word[1] >> 32);
	return sum + sum_words(((struct ipv6hdr *)pkt->ip)->saddr, 8);
}

/* What is to be added to sums over the packet: the old words, inverted, and the new words. */
struct sum_change {
	__u64 addrs;
	__u64 ports;
	__u64 header; /* of the IP header itself, which its own checksum does not balance */
};

/*
 * The new L4 checksum of a packet whose field equals its pseudo-header sum. The field is partial,
 * or complete with the same value by chance (once in 65,536 packets). The segment tells which: a
 * complete checksum verifies. In generic mode the skb keeps its flag, so a device that completes
 * checksums needs the partial form. So does the stack, to which an answer is handed over with its
 * skb, in any mode. Everywhere else nobody would complete it, and the receiver would drop the
 * packet, so the field gets the complete checksum.
 */
static __always_inline __sum16 new_partial_checksum(struct hook_ctx *ctx, const struct packet *pkt,
						    const struct action *action, __u64 pseudo,
						    const struct sum_change *change)
{
	__sum16 check = *pkt->check;
	__u64 segment = sum_bytes(ctx, pkt->l4_offset, pkt->l4_len);
	bool verifies = fold(pseudo + segment) == 0xffff;

	if ((interface.mode == MODE_SKB || action->kind == ACTION_HAND_OVER) &&
	    action->flags & REWRITE_COMPLETES_CHECKSUM && !verifies)
		return fold(pseudo + change->addrs);
	return ~fold(pseudo + change->addrs + change->ports + segment + (__u16)~check);
}

/* The new L4 checksum. That of a fragment is never partial: the sender had to complete it. */
static __always_inline __sum16 l4_checksum(struct hook_ctx *ctx, const struct packet *pkt,
					   const struct action *action, __u64 pseudo,
					   const struct sum_change *change)
{
	bool udp = pkt->proto == IPPROTO_UDP;
	__sum16 check = *pkt->check;

	if (udp && check == 0) /* the sender computed none: RFC 768, RFC 6935 */
		return 0;
	if (pkt->fragment == WHOLE && check == fold(pseudo))
		check = new_partial_checksum(ctx, pkt, action, pseudo, change);
	else if (!(action->flags & REWRITE_KEEP_IP))
		check = update_checksum(check, change->addrs + change->ports);
	return udp && check == 0 ? 0xffff : check;
}

#endif
