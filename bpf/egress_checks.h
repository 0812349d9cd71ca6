/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether the kernel would send a redirected packet on. It drops one that is too long, and neither
 * the program nor the sender learns of that. So the program asks before it changes a byte. What
 * becomes of a packet that is too long is in the action: by default, its sender gets an ICMP error.
 */
#ifndef __EGRESS_CHECKS_H__
#define __EGRESS_CHECKS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "hook.h"
#include "parse.h"

/* False where the rule decrements the TTL and the packet would leave with none (RFC 1812, 5.3.1).
 */
static __always_inline bool ttl_allows(const struct packet *pkt, const struct action *action)
{
	__u32 ttl;

	if (!(action->flags & REWRITE_DECREMENT_TTL))
		return true;
	ttl = pkt->family == FAMILY_IPV4 ? ((struct iphdr *)pkt->ip)->ttl
					 : ((struct ipv6hdr *)pkt->ip)->hop_limit;
	return ttl > 1;
}

/*
 * The MTUs of egress devices that were asked for last: ifindex (32 bits), the tick in which that
 * was (16 bits), MTU (16 bits). All of it is one word, so that CPUs which read and write it at the
 * same time never mix two devices.
 */
#define KNOWN_MTUS 256
__u64 known_mtus[KNOWN_MTUS] = {};

/* What such a word begins with: its last 16 bits are zero. */
static __always_inline __u64 mtu_key(__u32 ifindex)
{
	return (__u64)ifindex << 32 | (__u32)(__u16)bpf_jiffies64() << 16;
}

/* Neither static nor inlined, so that the verifier walks it once. */
__noinline __u32 ask_mtu(struct hook_ctx *ctx, __u32 ifindex)
{
	volatile __u64 *known = &known_mtus[ifindex % KNOWN_MTUS];
	__u32 mtu = 1; /* a length that fits; the kernel replaces it by the MTU */

	if (bpf_check_mtu(ctx, ifindex, &mtu, 0, 0) < 0)
		return 0;
	if (mtu > 0xffff)
		mtu = 0xffff;
	*known = mtu_key(ifindex) | mtu;
	return mtu;
}

/*
 * The MTU of a device, 65,535 at most. The kernel is asked once in a tick (1 to 10 ms), because
 * that costs more than all other checks: an MTU that shrinks is known that much later. 0: the
 * kernel does not know the device.
 */
static __always_inline __u32 device_mtu(struct hook_ctx *ctx, __u32 ifindex)
{
	volatile __u64 *known = &known_mtus[ifindex % KNOWN_MTUS];
	__u64 word = *known;

	return (word & ~0xffffull) == mtu_key(ifindex) ? word & 0xffff : ask_mtu(ctx, ifindex);
}

/* Of the header of a TCP segment, in bytes. */
static __always_inline __u32 tcp_header(struct hook_ctx *ctx, __u32 l4_offset)
{
	__u8 doff = 0; /* in units of 4 bytes, in the upper half */

	load_bytes(ctx, l4_offset + TCP_FLAGS - 1, &doff, sizeof(doff));
	return doff >> 4 << 2;
}

/*
 * The IP headers of each segment, in bytes. Where all of them together are longer than IPv6 can
 * say, the frame has one more: the option that says it (RFC 2675), which the kernel takes away.
 */
static __always_inline __u32 segment_headers(const struct packet *pkt)
{
	if (pkt->family == FAMILY_IPV6 && pkt->size - pkt->l4_offset > 0xffff)
		return sizeof(struct ipv6hdr);
	return pkt->l4_offset - pkt->ip_offset;
}

/* The length of the IP packet; where the frame holds several segments, of the longest of theirs. */
static __always_inline __u32 packet_length(struct hook_ctx *ctx, const struct packet *pkt)
{
	__u32 segment = segment_size(ctx);

	if (!segment)
		return pkt->size - pkt->ip_offset;
	segment += segment_headers(pkt);
	if (pkt->proto == IPPROTO_TCP)
		return segment + tcp_header(ctx, pkt->l4_offset);
	return segment + sizeof(struct udphdr);
}

/* The tags that the frame has when it leaves. */
static __always_inline __u32 tags_after(const struct packet *pkt, const struct action *action)
{
	__u32 tags = pkt->tags > action->pops ? pkt->tags - action->pops : 0;

	return action->flags & REWRITE_PUSH_VLAN ? tags + 1 : tags;
}

/* The longest IP packet that the device carries with so many tags. One tag is not part of the MTU.
 */
static __always_inline __u32 longest_packet(struct hook_ctx *ctx, __u32 ifindex, __u32 tags)
{
	__u32 counted = tags > 1 ? (tags - 1) * sizeof(struct tag) : 0;
	__u32 mtu = device_mtu(ctx, ifindex);

	return mtu > counted ? mtu - counted : 0;
}

/*
 * Whether the egress device carries the frame. The kernel is not asked about short frames: every
 * IPv4 link carries 68 bytes (RFC 791).
 */
static __always_inline bool mtu_allows(struct hook_ctx *ctx, const struct packet *pkt,
				       const struct action *action)
{
	return pkt->size <= sizeof(struct ethhdr) + 68 ||
	       packet_length(ctx, pkt) <=
		       longest_packet(ctx, action->ifindex, tags_after(pkt, action));
}

/*
 * Whether a rule may take a frame with two tags. If only one is taken away, the other goes along,
 * and what is behind the device would drop the frame. So the rule has to name the inner tag.
 */
static __always_inline bool tags_allow(const struct packet *pkt, const struct action *action)
{
	return pkt->tags < 2 || !action->pops || action->flags & REWRITE_INNER_VLAN;
}

#endif
