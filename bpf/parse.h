/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the headers that a rule can match: any protocol, in a whole packet or a fragment, over IPv4
 * or IPv6, and the ports of UDP, TCP and SCTP. VLAN tags, IPv4 options and IPv6 extension headers
 * may come before. Each step returns 0, or the outcome that ends the parsing.
 */
#ifndef __PARSE_H__
#define __PARSE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/flow.h"
#include "abi/limits.h"
#include "abi/outcomes.h"
#include "abi/rule.h"
#include "hook.h"

#define IP_MF	   0x2000 /* RFC 791: more fragments follow */
#define IP_OFFSET  0x1fff /* RFC 791: this fragment's offset, in 8 bytes */
#define IP6_MF	   0x0001 /* RFC 8200, section 4.5 */
#define IP6_OFFSET 0xfff8

#define MAX_TAGS       2    /* VLAN tags: 802.1Q, 802.1ad */
#define MAX_EXTENSIONS 8    /* IPv6 extension headers */
#define MAX_L4_OFFSET  1024 /* bytes of headers before the data of the last one's protocol */

#define VLAN_ID 0x0fff /* IEEE 802.1Q: the rest of the tag is priority and drop eligibility */

#define TCP_FLAGS   13 /* bytes before them in the header (RFC 9293, section 3.1) */
#define SCTP_HEADER 12 /* bytes */

enum fragment { WHOLE, FIRST, LATER };

struct packet {
	struct ethhdr *eth;
	void *ip;
	void *l4;	      /* not set in LATER fragments, like check */
	__sum16 *check;	      /* of UDP and TCP alone */
	struct flow_key flow; /* only UDP, TCP and SCTP have ports; LATER fragments have none */
	/* Says which IP header there is, so the verifier has to know its value: only of whole words
	 * on the stack does it know that. */
	__u64 family;
	__u32 size; /* of the frame, in bytes */
	__u32 tags;
	__u32 vlan;	  /* identifier of the outer tag; 0: none, or only a priority */
	__u32 inner_vlan; /* of the inner one */
	__u32 proto;	  /* not set in LATER fragments of IPv6 */
	__u32 tcp_flags;  /* of TCP alone */
	__u32 ip_offset;  /* from the start of the frame, in bytes */
	__u32 l4_offset;
	__u32 l4_len; /* header and payload, in bytes, without padding after it */
	enum fragment fragment;
	__u32 identification; /* of a fragment, in network byte order */
	/* Broadcast, multicast and the like: only a rule that names the address takes the packet.
	 */
	__u32 not_unicast_dst;
	__u32 not_unicast_src;
};

struct tag {
	__be16 tci;
	__be16 proto;
};

static __always_inline bool is_tag(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* Ethernet and VLAN tags. proto is what the last of them announces. */
static __always_inline __u32 parse_link(struct hook_ctx *ctx, struct packet *pkt, void *data,
					void *end, __be16 *proto)
{
	struct tag *tag = data + sizeof(struct ethhdr);
	__u32 beside = 0;

	pkt->eth = data;
	if (data + sizeof(struct ethhdr) > end)
		return OUTCOME_TRUNCATED;

	*proto = pkt->eth->h_proto;
	if (tag_beside(ctx, &beside)) {
		pkt->vlan = beside & VLAN_ID;
		pkt->tags++;
	}
	for (int i = pkt->tags; i < MAX_TAGS && is_tag(*proto); i++, tag++) {
		if ((void *)(tag + 1) > end)
			return OUTCOME_TRUNCATED;
		if (i == 0)
			pkt->vlan = bpf_ntohs(tag->tci) & VLAN_ID;
		else
			pkt->inner_vlan = bpf_ntohs(tag->tci) & VLAN_ID;
		*proto = tag->proto;
		pkt->tags++;
	}
	pkt->ip = tag;
	pkt->ip_offset = (void *)tag - data;
	return is_tag(*proto) ? OUTCOME_TAGS : 0;
}

static __always_inline __u32 parse_udp(struct packet *pkt, void *end)
{
	struct udphdr *udp = pkt->l4;
	__u32 len;

	if (pkt->l4_len < sizeof(*udp))
		return OUTCOME_MALFORMED;
	if ((void *)(udp + 1) > end)
		return OUTCOME_TRUNCATED;
	len = bpf_ntohs(udp->len);
	if (len < sizeof(*udp) || (len > pkt->l4_len && pkt->fragment == WHOLE))
		return OUTCOME_MALFORMED;

	pkt->check = &udp->check;
	pkt->l4_len = len;
	return 0;
}

static __always_inline __u32 parse_tcp(struct packet *pkt, void *end)
{
	struct tcphdr *tcp = pkt->l4;

	if (pkt->l4_len < sizeof(*tcp))
		return OUTCOME_MALFORMED;
	if ((void *)(tcp + 1) > end)
		return OUTCOME_TRUNCATED;
	if (tcp->doff < 5 || tcp->doff * 4u > pkt->l4_len)
		return OUTCOME_MALFORMED;

	pkt->check = &tcp->check;
	pkt->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS];
	return 0;
}

/* SCTP: ports, verification tag and checksum (RFC 9260, section 3.1). */
static __always_inline __u32 parse_sctp(const struct packet *pkt, void *end)
{
	if (pkt->l4_len < SCTP_HEADER)
		return OUTCOME_MALFORMED;
	return pkt->l4 + SCTP_HEADER > end ? OUTCOME_TRUNCATED : 0;
}

static __always_inline bool has_ports(const struct packet *pkt)
{
	return pkt->proto == IPPROTO_UDP || pkt->proto == IPPROTO_TCP || pkt->proto == IPPROTO_SCTP;
}

static __always_inline __u32 parse_segment(struct packet *pkt, void *end)
{
	__u32 outcome = 0;

	if (pkt->proto == IPPROTO_UDP)
		outcome = parse_udp(pkt, end);
	else if (pkt->proto == IPPROTO_TCP)
		outcome = parse_tcp(pkt, end);
	else if (pkt->proto == IPPROTO_SCTP)
		outcome = parse_sctp(pkt, end);
	if (outcome)
		return outcome;
	pkt->flow.word[0] =
		(__u64)pkt->vlan << 32 | (__u64)pkt->proto << 48 | (__u64)pkt->family << 56;
	if (has_ports(pkt))
		pkt->flow.word[0] |= *(__u32 *)pkt->l4;
	return 0;
}

/*
 * 1 where the number, which is less than 2^63, is less than the limit. Computed, because each
 * branch would double the paths that the verifier walks behind it; the barrier keeps the compiler
 * from making one of it.
 */
static __always_inline __u32 is_less(__u64 number, __u64 limit)
{
	number -= limit;
	asm volatile("" : "+r"(number));
	return number >> 63;
}

/*
 * Multicast (224.0.0.0/4), broadcast (255.255.255.255) and link-local (169.254.0.0/16). The
 * broadcast address of a subnet is not looked for: frames to it have a group MAC address.
 */
static __always_inline __u32 is_special4(__be32 addr)
{
	__u32 host = bpf_ntohl(addr);

	return is_less((__u32)(host - 0xe0000000), 0x10000000) | is_less((__u32)~host, 1) |
	       is_less(host >> 16 ^ 0xa9fe, 1);
}

/* Multicast (ff00::/8) and link-local (fe80::/10), by the first four bytes. */
static __always_inline __u32 is_special6(__be32 addr)
{
	__u32 host = bpf_ntohl(addr);

	return is_less((__u32)~host >> 24, 1) | is_less(host >> 22 ^ 0xfe80 >> 6, 1);
}

/* A host takes frames to a group MAC address for itself, whatever their IP addresses say. */
static __always_inline __u32 is_group(const __u8 *mac)
{
	return mac[0] & 1;
}

static __always_inline void parse_ipv4_addresses(struct packet *pkt, const struct iphdr *ip)
{
	pkt->flow.word[1] = *(__u64 *)&ip->saddr;
	pkt->not_unicast_dst = is_group(pkt->eth->h_dest) | is_special4(ip->daddr);
	pkt->not_unicast_src = is_special4(ip->saddr) | is_less(ip->saddr, 1);
}

/*
 * What a header says of its packet's length. It says 0 where the frame holds segments of more than
 * 65,535 bytes together (BIG TCP): then the packet ends with the frame.
 */
static __always_inline __u32 stated_length(struct hook_ctx *ctx, const struct packet *pkt,
					   __be16 length, __u32 begin)
{
	if (!length && segment_size(ctx) && pkt->size > begin)
		return pkt->size - begin;
	return bpf_ntohs(length);
}

/* Of the IP packet, in bytes, as its header says it. */
static __always_inline __u32 ip_length(struct hook_ctx *ctx, const struct packet *pkt)
{
	const struct ipv6hdr *ip6 = pkt->ip;
	__u32 header = sizeof(*ip6);

	if (pkt->family == FAMILY_IPV4)
		return stated_length(ctx, pkt, ((struct iphdr *)pkt->ip)->tot_len, pkt->ip_offset);
	return header + stated_length(ctx, pkt, ip6->payload_len, pkt->ip_offset + header);
}

static __always_inline __u32 parse_ipv4(struct hook_ctx *ctx, struct packet *pkt, void *end)
{
	struct iphdr *ip = pkt->ip;
	__u32 header, total;

	if ((void *)(ip + 1) > end)
		return OUTCOME_TRUNCATED;
	header = ip->ihl * 4;
	total = stated_length(ctx, pkt, ip->tot_len, pkt->ip_offset);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return OUTCOME_MALFORMED;
	if (pkt->ip_offset + total > pkt->size)
		return OUTCOME_TRUNCATED;

	pkt->family = FAMILY_IPV4;
	pkt->proto = ip->protocol;
	parse_ipv4_addresses(pkt, ip);
	pkt->l4 = pkt->ip + header;
	pkt->l4_offset = pkt->ip_offset + header;
	pkt->l4_len = total - header;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)) {
		pkt->fragment = ip->frag_off & bpf_htons(IP_OFFSET) ? LATER : FIRST;
		pkt->identification = ip->id;
		if (pkt->fragment == LATER)
			return 0;
	}
	return parse_segment(pkt, end);
}

struct extensions {
	__u32 offset; /* of the next header, from the start of the frame */
	__u32 end;    /* of the IPv6 packet */
	__u32 next;   /* its protocol number */
	__u32 fragment_headers;
	__u32 fragment;
	__u32 identification;
};

/*
 * Skips the extension headers, up to another protocol or the data of a later fragment. Neither
 * static nor inlined, so that the verifier walks it once and not for every path that leads to it.
 * The loop is unrolled: verifiers before Linux 6.7 refuse a loop that falls through to its start
 * ("back-edge"), and clang makes such a loop of this one.
 */
__noinline __u32 skip_extensions(struct hook_ctx *ctx, struct extensions *at)
{
	struct {
		__u8 next;
		__u8 len; /* in units of 8 bytes, without the first 8 */
		__u8 type;
		__u8 segments; /* of a routing header: routers still to visit */
		__be32 identification;
	} header;

	if (!at)
		return OUTCOME_MALFORMED;
#pragma unroll
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		if (at->next != IPPROTO_HOPOPTS && at->next != IPPROTO_ROUTING &&
		    at->next != IPPROTO_DSTOPTS && at->next != IPPROTO_FRAGMENT)
			return 0;
		if (i == MAX_EXTENSIONS || at->offset > MAX_L4_OFFSET)
			return OUTCOME_EXTENSION_HEADERS;
		if (at->offset + sizeof(header) > at->end)
			return OUTCOME_MALFORMED;
		if (load_bytes(ctx, at->offset, &header, sizeof(header)))
			return OUTCOME_TRUNCATED;

		if (at->next == IPPROTO_FRAGMENT) {
			if (at->fragment_headers++)
				return OUTCOME_EXTENSION_HEADERS;
			at->offset += sizeof(header);
			at->next = header.next;
			at->identification = header.identification;
			if ((header.type << 8 | header.segments) & IP6_OFFSET) {
				at->fragment = LATER;
				return 0;
			}
			/* With neither offset nor more to come, it is a whole packet (RFC 6946). */
			if (header.segments & IP6_MF)
				at->fragment = FIRST;
			continue;
		}
		if (at->next == IPPROTO_ROUTING && header.segments)
			return OUTCOME_EXTENSION_HEADERS;
		at->offset += (header.len + 1) * 8;
		at->next = header.next;
	}
	return OUTCOME_EXTENSION_HEADERS;
}

static __always_inline __u32 parse_extensions(struct hook_ctx *ctx, struct packet *pkt, void *data,
					      __u32 next)
{
	struct extensions at = {
		.offset = pkt->l4_offset,
		.end = pkt->l4_offset + pkt->l4_len,
		.next = next,
	};
	__u32 outcome = skip_extensions(ctx, &at);

	if (outcome)
		return outcome;
	if (at.offset > at.end)
		return OUTCOME_MALFORMED;
	pkt->fragment = at.fragment;
	pkt->identification = at.identification;
	if (at.fragment == LATER)
		return 0;
	if (at.offset > MAX_L4_OFFSET)
		return OUTCOME_EXTENSION_HEADERS;

	pkt->proto = at.next;
	pkt->l4 = data + at.offset;
	pkt->l4_offset = at.offset;
	pkt->l4_len = at.end - at.offset;
	return 0;
}

static __always_inline void parse_ipv6_addresses(struct packet *pkt, const struct ipv6hdr *ip)
{
	const __u64 *addrs = (const __u64 *)ip->saddr;
	__u64 low = addrs[0] | addrs[1]; /* 0 for :: alone */

	pkt->flow.word[1] = addrs[0];
	pkt->flow.word[2] = addrs[1];
	pkt->flow.word[3] = addrs[2];
	pkt->flow.word[4] = addrs[3];
	pkt->not_unicast_dst = is_group(pkt->eth->h_dest) | is_special6(ip->daddr[0]);
	pkt->not_unicast_src = is_special6(ip->saddr[0]) | is_less((__u32)(low | low >> 32), 1);
}

static __always_inline __u32 parse_ipv6(struct hook_ctx *ctx, struct packet *pkt, void *data,
					void *end)
{
	struct ipv6hdr *ip = pkt->ip;
	__u32 outcome;

	if ((void *)(ip + 1) > end)
		return OUTCOME_TRUNCATED;
	if (ip->version != 6)
		return OUTCOME_MALFORMED;
	pkt->l4 = ip + 1;
	pkt->l4_offset = pkt->ip_offset + sizeof(*ip);
	pkt->l4_len = stated_length(ctx, pkt, ip->payload_len, pkt->l4_offset);
	if (pkt->l4_offset + pkt->l4_len > pkt->size)
		return OUTCOME_TRUNCATED;

	pkt->family = FAMILY_IPV6;
	parse_ipv6_addresses(pkt, ip);
	pkt->proto = ip->nexthdr;
	if (pkt->proto != IPPROTO_UDP && pkt->proto != IPPROTO_TCP) {
		pkt->proto = 0;
		outcome = parse_extensions(ctx, pkt, data, ip->nexthdr);
		if (outcome || pkt->fragment == LATER)
			return outcome;
	}
	return parse_segment(pkt, end);
}

static __always_inline __u32 parse(struct hook_ctx *ctx, struct packet *pkt, void *data, void *end)
{
	__be16 proto = 0;
	__u32 outcome = parse_link(ctx, pkt, data, end, &proto);

	if (outcome)
		return outcome;
	if (proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(ctx, pkt, end);
	if (proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, pkt, data, end);
	return OUTCOME_NOT_IP;
}

#endif
