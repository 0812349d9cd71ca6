/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What most packets are: UDP or TCP from one host to another, without an option or a fragment, and
 * with one tag at most. The compiler makes a short path of the stages for them, because it knows
 * what parse() would find out.
 */
#ifndef __PLAIN_H__
#define __PLAIN_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "hook.h"
#include "parse.h"

#define PLAIN4_L4 (sizeof(struct ethhdr) + sizeof(struct iphdr))

/* IPv4 behind so many tags, which have been read. */
static __always_inline bool parse_plain4(struct packet *pkt, void *data, void *end, __u32 tags)
{
	__u32 offset = sizeof(struct ethhdr) + tags * sizeof(struct tag), total;
	struct iphdr *ip = data + offset;

	if ((void *)(ip + 1) + sizeof(struct tcphdr) > end)
		return false;
	/* The type of the Ethernet frame, and version and length of the header. */
	if ((*(__u32 *)((void *)ip - 2) & bpf_htonl(0xffffff00)) !=
	    bpf_htonl(ETH_P_IP << 16 | 0x4500))
		return false;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return false;
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)
		return false;
	total = bpf_ntohs(ip->tot_len);
	if (total < sizeof(*ip) || total + offset > pkt->size)
		return false;

	pkt->eth = data;
	pkt->ip = ip;
	pkt->l4 = ip + 1;
	pkt->ip_offset = offset;
	pkt->l4_offset = offset + sizeof(*ip);
	pkt->l4_len = total - sizeof(*ip);
	pkt->family = FAMILY_IPV4;
	pkt->proto = ip->protocol;
	pkt->tags = tags;
	pkt->fragment = WHOLE;
	parse_ipv4_addresses(pkt, ip);
	if (pkt->not_unicast_dst | pkt->not_unicast_src)
		return false;
	pkt->not_unicast_dst = 0; /* the compiler knows it from here on */
	pkt->not_unicast_src = 0;
	return parse_segment(pkt, end) == 0;
}

/* False where parse() has to look closer. */
static __always_inline bool parse_plain(struct hook_ctx *ctx, struct packet *pkt, void *data,
					void *end)
{
	__u32 beside;

	return !tag_beside(ctx, &beside) && parse_plain4(pkt, data, end, 0);
}

/* The same of frames with one tag. */
static __always_inline bool parse_tagged(struct hook_ctx *ctx, struct packet *pkt, void *data,
					 void *end)
{
	struct tag *tag = data + sizeof(struct ethhdr);
	__u32 beside;

	if (tag_beside(ctx, &beside))
		return false;
	if ((void *)(tag + 1) > end || !is_tag(((struct ethhdr *)data)->h_proto))
		return false;
	pkt->vlan = bpf_ntohs(tag->tci) & VLAN_ID;
	return parse_plain4(pkt, data, end, 1);
}

#define PLAIN6_L4 (sizeof(struct ethhdr) + sizeof(struct ipv6hdr))

/* The same of IPv6, without extension headers. */
static __always_inline bool parse_plain6(struct hook_ctx *ctx, struct packet *pkt, void *data,
					 void *end)
{
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);
	__u32 payload, beside;

	if (tag_beside(ctx, &beside))
		return false;
	if (data + PLAIN6_L4 + sizeof(struct udphdr) > end)
		return false;
	if (*(__be16 *)(data + 12) != bpf_htons(ETH_P_IPV6) || ip->version != 6)
		return false;
	if (ip->nexthdr != IPPROTO_UDP && ip->nexthdr != IPPROTO_TCP)
		return false;
	payload = bpf_ntohs(ip->payload_len);
	if (payload + PLAIN6_L4 > pkt->size)
		return false;

	pkt->eth = data;
	pkt->ip = ip;
	pkt->l4 = data + PLAIN6_L4;
	pkt->ip_offset = sizeof(struct ethhdr);
	pkt->l4_offset = PLAIN6_L4;
	pkt->l4_len = payload;
	pkt->family = FAMILY_IPV6;
	pkt->proto = ip->nexthdr;
	pkt->tags = 0;
	pkt->vlan = 0;
	pkt->fragment = WHOLE;
	parse_ipv6_addresses(pkt, ip);
	if (pkt->not_unicast_dst | pkt->not_unicast_src)
		return false;
	pkt->not_unicast_dst = 0;
	pkt->not_unicast_src = 0;
	return parse_segment(pkt, end) == 0;
}

#endif
