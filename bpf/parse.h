/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a frame to the headers that a rule can match: IPv4 (options included)
 * over untagged Ethernet, carrying all of a UDP or TCP segment.
 */
#ifndef __PARSE_H__
#define __PARSE_H__

#define IP_MF	  0x2000 /* RFC 791: more fragments follow */
#define IP_OFFSET 0x1fff /* RFC 791: this fragment's offset, in 8 bytes */

struct packet {
	struct ethhdr *eth;
	struct iphdr *ip;
	__sum16 *check; /* of UDP or TCP */
	__be16 sport;
	__be16 dport;
	__u32 l4_offset; /* from the start of the frame, in bytes */
	__u32 l4_len;	 /* header and payload, in bytes; padding is not part of it */
};

static __always_inline bool parse_ipv4(struct packet *pkt, void *data, void *end)
{
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return false;
	if (ip->version != 4 || ip->ihl < 5)
		return false;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return false;

	pkt->eth = eth;
	pkt->ip = ip;
	return true;
}

static __always_inline bool parse_udp(struct packet *pkt, void *l4, void *end)
{
	struct udphdr *udp = l4;

	if ((void *)(udp + 1) > end)
		return false;
	if (bpf_ntohs(udp->len) < sizeof(*udp) || bpf_ntohs(udp->len) > pkt->l4_len)
		return false;

	pkt->sport = udp->source;
	pkt->dport = udp->dest;
	pkt->check = &udp->check;
	pkt->l4_len = bpf_ntohs(udp->len);
	return true;
}

static __always_inline bool parse_tcp(struct packet *pkt, void *l4, void *end)
{
	struct tcphdr *tcp = l4;

	if ((void *)(tcp + 1) > end)
		return false;
	if (tcp->doff < 5 || tcp->doff * 4u > pkt->l4_len)
		return false;

	pkt->sport = tcp->source;
	pkt->dport = tcp->dest;
	pkt->check = &tcp->check;
	return true;
}

/* False: nothing that a rule could match, or headers that contradict the frame. */
static __always_inline bool parse(struct packet *pkt, void *data, void *end)
{
	__u32 header, total;
	void *l4;

	if (!parse_ipv4(pkt, data, end))
		return false;

	header = pkt->ip->ihl * 4;
	total = bpf_ntohs(pkt->ip->tot_len);
	if (total < header || sizeof(*pkt->eth) + total > (__u64)(end - data))
		return false;

	l4 = (void *)pkt->ip + header;
	pkt->l4_offset = sizeof(*pkt->eth) + header;
	pkt->l4_len = total - header;

	switch (pkt->ip->protocol) {
	case IPPROTO_UDP:
		return parse_udp(pkt, l4, end);
	case IPPROTO_TCP:
		return parse_tcp(pkt, l4, end);
	default:
		return false;
	}
}

#endif
