/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Checksums for changed addresses and ports. All sums are ones' complement sums
 * of 16-bit words in network byte order, held in a wider register.
 *
 * A sender with checksum offload leaves the L4 checksum partial: the field holds
 * the folded sum of the pseudo-header, not inverted, and a flag on the skb has
 * the rest done later. XDP sees the field but not the flag.
 */
#ifndef __CHECKSUM_H__
#define __CHECKSUM_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/backend.h"
#include "interface.h"
#include "parse.h"

#define SUM_CHUNK 128 /* bytes; what fits on the stack beside the caller's */

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* RFC 1624, equation 3; change: the sum of what was there, inverted, and what is there now. */
static __always_inline __sum16 update(__sum16 check, __u64 change)
{
	return ~fold((__u64)(__u16)~check + change);
}

/*
 * Sum of len bytes of the frame from offset, at most 65,535. A last odd byte counts
 * as if a zero followed it (RFC 1071). The reads cannot fail: parse has seen that the
 * frame has the whole segment. Neither static nor inlined, so that the
 * verifier walks its loop once and not for every path that leads to it.
 */
__noinline __u32 sum_bytes(struct xdp_md *ctx, __u32 offset, __u32 len)
{
	__u64 chunk[SUM_CHUNK / sizeof(__u64)];
	__s64 sum = 0;

	for (int i = 0; i < 0xffff / SUM_CHUNK && len >= SUM_CHUNK; i++) {
		if (bpf_xdp_load_bytes(ctx, offset, chunk, SUM_CHUNK))
			return 0;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, SUM_CHUNK, sum);
		offset += SUM_CHUNK;
		len -= SUM_CHUNK;
	}

	__builtin_memset(chunk, 0, sizeof(chunk));
	if (len == 0)
		return bpf_csum_diff(NULL, 0, (__be32 *)chunk, SUM_CHUNK, sum);
	/*
	 * Verifiers before Linux 7.0 refuse the read unless arithmetic bounds its length:
	 * comparisons don't reach them, for the compiler compares a copy. The barrier keeps it from
	 * seeing that this changes nothing.
	 */
	len--;
	asm volatile("" : "+r"(len));
	len = (len & (SUM_CHUNK - 1)) + 1;
	if (bpf_xdp_load_bytes(ctx, offset, chunk, len))
		return 0;
	return bpf_csum_diff(NULL, 0, (__be32 *)chunk, SUM_CHUNK, sum);
}

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

/* What changes in sums over the packet. */
struct change {
	__u64 addrs;
	__u64 ports;
};

/*
 * The new L4 checksum of a packet whose field equals its pseudo-header sum: it is
 * partial or, once in 65,536, complete by chance. Which of the two shows in the
 * segment: a complete sum verifies. In generic mode, where the flag travels with
 * the packet, a device that completes needs the partial form; everywhere else
 * nobody would complete it, so the full sum goes in.
 */
static __always_inline __sum16 complete(struct xdp_md *ctx, const struct packet *pkt,
					const struct backend *backend, __u64 pseudo,
					const struct change *change)
{
	__sum16 check = *pkt->check;
	__u64 segment = sum_bytes(ctx, pkt->l4_offset, pkt->l4_len);
	bool verifies = fold(pseudo + segment) == 0xffff;

	if (interface.mode == MODE_SKB && backend->flags & BACKEND_COMPLETES_CHECKSUM && !verifies)
		return fold(pseudo + change->addrs);
	return ~fold(pseudo + change->addrs + change->ports + segment + (__u16)~check);
}

/* The new L4 checksum. A fragment's is never partial: the sender had to complete it. */
static __always_inline __sum16 l4_checksum(struct xdp_md *ctx, const struct packet *pkt,
					   const struct backend *backend, __u64 pseudo,
					   const struct change *change)
{
	bool udp = pkt->proto == IPPROTO_UDP;
	__sum16 check = *pkt->check;

	if (udp && check == 0) /* RFC 768, RFC 6935: the sender computed none */
		return 0;
	if (pkt->fragment == WHOLE && check == fold(pseudo))
		check = complete(ctx, pkt, backend, pseudo, change);
	else if (!(backend->flags & BACKEND_KEEP_IP))
		check = update(check, change->addrs + change->ports);
	return udp && check == 0 ? 0xffff : check;
}

#endif
