/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers for addresses that no host has and that a rule announces (--announce): ARP requests (RFC
 * 826), neighbour solicitations (RFC 4861) and echo requests. The frame itself becomes the answer,
 * and goes back out of the interface, with its tags. What can fail comes before the first byte that
 * is written.
 *
 * The functions are neither static nor inlined, so that the verifier walks them once, and so that
 * what one has on the stack is gone before the next one runs.
 */
#ifndef __ANNOUNCE_H__
#define __ANNOUNCE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/outcomes.h"
#include "abi/rule.h"
#include "abi/ruleset.h"
#include "checksum.h"
#include "heap.h"
#include "hook.h"
#include "interface.h"
#include "parse.h"
#include "policy.h"
#include "rule_lookup.h"
#include "scratch.h"
#include "too_big.h"

#define ARP_ETHERNET 1 /* the hardware type */
#define ARP_REQUEST  1
#define ARP_REPLY    2

#define ICMP_ECHO_REPLY	     0
#define ICMP_ECHO_REQUEST    8
#define ICMPV6_ECHO_REQUEST  128
#define ICMPV6_ECHO_REPLY    129
#define ICMPV6_SOLICITATION  135
#define ICMPV6_ADVERTISEMENT 136

#define ND_HOPS		     255 /* anything less has passed a router (RFC 4861, section 7.1.1) */
#define ND_SOLICITED	     0x40000000
#define ND_OVERRIDE	     0x20000000
#define ND_SOURCE_LINK_LAYER 1
#define ND_TARGET_LINK_LAYER 2
#define SOLICITATION_LEN     24		  /* bytes, without options */
#define ALL_NODES	     bpf_htonl(1) /* the last word of ff02::1 */
#define SOLICITED_NODE_MASK  bpf_htonl(0xff000000)

struct macs {
	__u8 to[ETH_ALEN];
	__u8 from[ETH_ALEN];
};

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
};

/* A neighbour solicitation, and its advertisement with one option. */
struct neighbour {
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 flags;
	__be32 target[4];
	__u8 option;
	__u8 option_len; /* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
};
#define ADVERTISEMENT_LEN (sizeof(struct neighbour) - sizeof(struct ipv6hdr))

struct echo {
	__u8 type;
	__u8 code;
	__sum16 check;
};

/* Memory of this CPU, for as long as a question takes. */
struct question {
	__u32 family;
	__be32 addr[4]; /* that is asked for; IPv4 in the first word, the others zero */
	struct macs macs;
	struct arp arp;
	struct neighbour neighbour;
	struct iphdr ip;
	struct ipv6hdr ip6;
	struct echo echo;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct question);
} question SEC(".maps");

static __always_inline struct question *this_cpu_question(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&question, &zero);
}

/* Whether a rule announces the address in this CPU's question where the packet came from. */
__noinline __u32 is_announced(void)
{
	struct question *asked = this_cpu_question();
	struct scratch *mine = this_cpu_scratch();
	const struct only_rule *only;
	struct query query = {};
	__u32 slot, class, line;

	if (!asked || !mine) /* never; the verifier doesn't know */
		return 0;
	slot = mine->decided.slot & LIVE_SLOT;
	class = asked->family == FAMILY_IPV6 ? PORTS_OTHER6 : PORTS_OTHER4;
	line = service_line(slot, class, PORT_ANNOUNCED);
	if (!line || answers_only(slot))
		return 0;
	query.family = asked->family;
	query.slot = slot;
	query.place.ifindex = interface.ifindex;
	query.place.vlan = mine->parsed.vlan;
	query.place.inner_vlan = mine->parsed.inner_vlan;
	if (asked->family == FAMILY_IPV6) {
		__builtin_memcpy(query.addrs + 2, asked->addr, sizeof(asked->addr));
	} else {
		query.addrs[0] = (__u64)asked->addr[0] << 32;
	}
	only = line_at(line);
	if (only && only->kind == SERVICE_ONLY)
		return only_rule_takes(only, &query);
	return find_rule(&query, line) != NULL;
}

static __always_inline bool is_ours(const __u8 *mac)
{
	for (int i = 0; i < ETH_ALEN; i++) {
		if (mac[i] != interface.mac[i])
			return false;
	}
	return true;
}

/* Byte by byte: the compiler must not take the constant for what it is before the command sets it.
 */
static __always_inline void put_our_mac(__u8 *mac)
{
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = interface.mac[i];
}

static __always_inline void set_macs(struct macs *macs, const __u8 *to)
{
	__builtin_memcpy(macs->to, to, ETH_ALEN);
	put_our_mac(macs->from);
}

/* Multicast and broadcast. */
static __always_inline bool is_group4(__be32 addr)
{
	return bpf_ntohl(addr) >= 0xe0000000;
}

/*
 * An announcement asks for the address that it comes from, and wants no answer: its sender says
 * that it has the address. A probe comes from 0.0.0.0, and is answered (RFC 5227, section 2.1.1).
 */
static __always_inline bool is_answerable_arp(const struct arp *arp, const struct macs *macs)
{
	__be32 sender = *(__be32 *)arp->sender;

	return arp->hardware == bpf_htons(ARP_ETHERNET) && arp->protocol == bpf_htons(ETH_P_IP) &&
	       arp->hardware_len == ETH_ALEN && arp->protocol_len == sizeof(sender) &&
	       arp->operation == bpf_htons(ARP_REQUEST) && !is_group(arp->sender_mac) &&
	       !is_group4(sender) && sender != *(__be32 *)arp->target &&
	       (is_group(macs->to) || is_ours(macs->to));
}

/* The outcome of a frame that is not IP. */
__noinline __u32 answer_arp(struct hook_ctx *ctx)
{
	struct question *asked = this_cpu_question();
	struct scratch *mine = this_cpu_scratch();
	struct arp *arp;
	__be16 proto;

	if (!asked || !mine || interface.answers == ANSWERS_NONE)
		return OUTCOME_NOT_IP;
	arp = &asked->arp;
	if (load_bytes(ctx, mine->parsed.ip_offset - sizeof(proto), &proto, sizeof(proto)) ||
	    proto != bpf_htons(ETH_P_ARP))
		return OUTCOME_NOT_IP;
	if (load_bytes(ctx, 0, &asked->macs, sizeof(asked->macs)) ||
	    load_bytes(ctx, mine->parsed.ip_offset, arp, sizeof(*arp)) ||
	    !is_answerable_arp(arp, &asked->macs))
		return OUTCOME_NOT_IP;
	asked->family = FAMILY_IPV4;
	asked->addr[0] = *(__be32 *)arp->target;
	if (!is_announced())
		return OUTCOME_NOT_IP;

	arp->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->target, arp->sender, sizeof(arp->target));
	put_our_mac(arp->sender_mac);
	__builtin_memcpy(arp->sender, asked->addr, sizeof(arp->sender));
	set_macs(&asked->macs, arp->target_mac);
	store_bytes(ctx, 0, &asked->macs, sizeof(asked->macs));
	store_bytes(ctx, mine->parsed.ip_offset, arp, sizeof(*arp));
	prepare_answer();
	return OUTCOME_ANNOUNCED;
}

static __always_inline bool is_zero6(const __be32 *addr)
{
	return !(addr[0] | addr[1] | addr[2] | addr[3]);
}

/* The solicited-node address of a target: ff02::1:ff, and its last three bytes. */
static __always_inline bool is_solicited_node(const __be32 *addr, const __be32 *target)
{
	return addr[0] == bpf_htonl(0xff020000) && !addr[1] && addr[2] == bpf_htonl(1) &&
	       addr[3] == (target[3] | SOLICITED_NODE_MASK);
}

static __always_inline bool is_same6(const __be32 *one, const __be32 *other)
{
	return one[0] == other[0] && one[1] == other[1] && one[2] == other[2] && one[3] == other[3];
}

/* Where the option ends that begins at an offset, which is not the end; 0: it is not valid. */
static __always_inline __u32 skip_option(struct hook_ctx *ctx, __u32 offset, __u32 end,
					 bool is_probe)
{
	struct {
		__u8 type;
		__u8 len; /* in units of 8 bytes */
	} option;

	if (offset == end || !offset)
		return offset;
	if (offset + 8 > end || load_bytes(ctx, offset, &option, sizeof(option)))
		return 0;
	/* One whose sender has no address yet must not say its MAC address. */
	if (!option.len || (is_probe && option.type == ND_SOURCE_LINK_LAYER))
		return 0;
	return offset + option.len * 8;
}

/* Whether a solicitation's options, four at most, end where it does (RFC 4861, section 7.1.1). */
static __always_inline bool has_good_options(struct hook_ctx *ctx, __u32 offset, __u32 end,
					     bool is_probe)
{
	offset = skip_option(ctx, offset, end, is_probe);
	offset = skip_option(ctx, offset, end, is_probe);
	offset = skip_option(ctx, offset, end, is_probe);
	offset = skip_option(ctx, offset, end, is_probe);
	return offset == end;
}

static __always_inline bool has_good_checksum(struct hook_ctx *ctx, const struct packet *pkt,
					      __u64 pseudo)
{
	return fold(pseudo + sum_bytes(ctx, pkt->l4_offset, pkt->l4_len)) == 0xffff;
}

/* The pseudo-header of a packet of ICMPv6 (RFC 8200, section 8.1). */
static __always_inline __u64 pseudo_header6(const struct ipv6hdr *ip, __u32 len)
{
	return bpf_htons(IPPROTO_ICMPV6) + bpf_htons(len) + sum_words(ip->saddr, 8);
}

/* RFC 4861, section 7.1.1. */
static __always_inline bool is_answerable_solicitation(struct hook_ctx *ctx,
						       const struct packet *pkt,
						       const struct question *asked)
{
	const struct neighbour *neighbour = &asked->neighbour;
	const struct ipv6hdr *ip = &neighbour->ip;
	bool is_probe = is_zero6(ip->saddr);

	if (neighbour->type != ICMPV6_SOLICITATION || neighbour->code || ip->hop_limit != ND_HOPS)
		return false;
	if ((ip->saddr[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
		return false;
	if (is_group(asked->macs.from) || (!is_group(asked->macs.to) && !is_ours(asked->macs.to)))
		return false;
	if (!is_solicited_node(ip->daddr, neighbour->target) &&
	    (is_probe || !is_same6(ip->daddr, neighbour->target)))
		return false;
	return has_good_options(ctx, pkt->l4_offset + SOLICITATION_LEN,
				pkt->l4_offset + pkt->l4_len, is_probe) &&
	       has_good_checksum(ctx, pkt, pseudo_header6(ip, pkt->l4_len));
}

/* The MAC address of a multicast address, by its last word (RFC 2464, section 7). */
static __always_inline void set_group(__u8 *mac, __be32 last)
{
	mac[0] = 0x33;
	mac[1] = 0x33;
	__builtin_memcpy(mac + 2, &last, sizeof(last));
}

/*
 * Makes an advertisement of the solicitation. One whose sender has no address yet is answered to
 * all nodes (RFC 4861, section 7.2.4).
 */
static __always_inline void make_advertisement(struct question *asked)
{
	struct neighbour *neighbour = &asked->neighbour;
	struct ipv6hdr *ip = &neighbour->ip;
	bool is_probe = is_zero6(ip->saddr);

	ip->payload_len = bpf_htons(ADVERTISEMENT_LEN);
	__builtin_memcpy(ip->daddr, ip->saddr, sizeof(ip->daddr));
	__builtin_memcpy(ip->saddr, neighbour->target, sizeof(ip->saddr));
	neighbour->flags = bpf_htonl(ND_SOLICITED | ND_OVERRIDE);
	set_macs(&asked->macs, asked->macs.from);
	if (is_probe) {
		ip->daddr[0] = bpf_htonl(0xff020000);
		ip->daddr[3] = ALL_NODES;
		neighbour->flags = bpf_htonl(ND_OVERRIDE);
		set_group(asked->macs.to, ALL_NODES);
	}
	neighbour->type = ICMPV6_ADVERTISEMENT;
	neighbour->check = 0;
	neighbour->option = ND_TARGET_LINK_LAYER;
	neighbour->option_len = 1;
	put_our_mac(neighbour->mac);
	neighbour->check = ~fold(pseudo_header6(ip, ADVERTISEMENT_LEN) +
				 sum_words((__be32 *)&neighbour->type, ADVERTISEMENT_LEN / 4));
}

/* For a packet of ICMPv6 that is whole. 0: it is no solicitation that is answered here. */
__noinline __u32 answer_solicitation(struct hook_ctx *ctx)
{
	struct question *asked = this_cpu_question();
	struct scratch *mine = this_cpu_scratch();
	const struct packet *pkt;
	__u32 end;

	if (!asked || !mine || interface.answers == ANSWERS_NONE)
		return 0;
	pkt = &mine->parsed;
	if (pkt->l4_offset != pkt->ip_offset + sizeof(struct ipv6hdr) ||
	    pkt->l4_len < SOLICITATION_LEN)
		return 0;
	if (load_bytes(ctx, 0, &asked->macs, sizeof(asked->macs)) ||
	    load_bytes(ctx, pkt->ip_offset, &asked->neighbour,
		       sizeof(struct ipv6hdr) + SOLICITATION_LEN) ||
	    !is_answerable_solicitation(ctx, pkt, asked))
		return 0;
	asked->family = FAMILY_IPV6;
	__builtin_memcpy(asked->addr, asked->neighbour.target, sizeof(asked->addr));
	end = pkt->ip_offset + sizeof(asked->neighbour);
	if (!is_announced() || !adjust_tail(ctx, (int)(end - pkt->size)))
		return 0;

	make_advertisement(asked);
	store_bytes(ctx, 0, &asked->macs, sizeof(asked->macs));
	store_bytes(ctx, pkt->ip_offset, &asked->neighbour, sizeof(asked->neighbour));
	prepare_answer();
	return OUTCOME_ANNOUNCED;
}

/* Writes the answer's addresses, its time to live, and the type of its message. */
static __always_inline bool make_echo_reply4(struct hook_ctx *ctx, const struct packet *pkt,
					     struct question *asked)
{
	struct iphdr *ip = &asked->ip;
	__be32 asker;

	if (load_bytes(ctx, pkt->ip_offset, ip, sizeof(*ip)) || ip->ihl != sizeof(*ip) / 4 ||
	    fold(sum_words((__be32 *)ip, sizeof(*ip) / 4)) != 0xffff ||
	    asked->echo.type != ICMP_ECHO_REQUEST || !has_good_checksum(ctx, pkt, 0))
		return false;
	asked->family = FAMILY_IPV4;
	asked->addr[0] = ip->daddr;
	if (!is_announced())
		return false;
	asker = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = asker;
	ip->ttl = ANSWER_HOPS;
	ip->check = 0;
	ip->check = ~fold(sum_words((__be32 *)ip, sizeof(*ip) / 4));
	asked->echo.type = ICMP_ECHO_REPLY;
	asked->echo.check =
		update_checksum(asked->echo.check, (__u16)~bpf_htons(ICMP_ECHO_REQUEST << 8));
	store_bytes(ctx, pkt->ip_offset, ip, sizeof(*ip));
	return true;
}

static __always_inline bool make_echo_reply6(struct hook_ctx *ctx, const struct packet *pkt,
					     struct question *asked)
{
	struct ipv6hdr *ip = &asked->ip6;

	if (pkt->l4_offset != pkt->ip_offset + sizeof(*ip) ||
	    load_bytes(ctx, pkt->ip_offset, ip, sizeof(*ip)) ||
	    asked->echo.type != ICMPV6_ECHO_REQUEST ||
	    !has_good_checksum(ctx, pkt, pseudo_header6(ip, pkt->l4_len)))
		return false;
	asked->family = FAMILY_IPV6;
	__builtin_memcpy(asked->addr, ip->daddr, sizeof(asked->addr));
	if (!is_announced())
		return false;
	__builtin_memcpy(ip->daddr, ip->saddr, sizeof(ip->daddr));
	__builtin_memcpy(ip->saddr, asked->addr, sizeof(ip->saddr));
	ip->hop_limit = ANSWER_HOPS;
	asked->echo.type = ICMPV6_ECHO_REPLY;
	asked->echo.check = update_checksum(asked->echo.check,
					    (__u64)(__u16)~bpf_htons(ICMPV6_ECHO_REQUEST << 8) +
						    bpf_htons(ICMPV6_ECHO_REPLY << 8));
	store_bytes(ctx, pkt->ip_offset, ip, sizeof(*ip));
	return true;
}

/*
 * The outcome of a packet without ports that no rule takes. Frames to another MAC address are not
 * for this host, though a switch or a promiscuous device may bring them here.
 */
__noinline __u32 answer_echo(struct hook_ctx *ctx)
{
	struct question *asked = this_cpu_question();
	struct scratch *mine = this_cpu_scratch();
	const struct packet *pkt;
	bool is_made = false;

	if (!asked || !mine || interface.answers == ANSWERS_NONE)
		return OUTCOME_NOT_UDP_TCP;
	pkt = &mine->parsed;
	if (pkt->fragment != WHOLE || pkt->not_unicast_dst || pkt->not_unicast_src ||
	    pkt->l4_len < 2 * sizeof(asked->echo))
		return OUTCOME_NOT_UDP_TCP;
	if (load_bytes(ctx, 0, &asked->macs, sizeof(asked->macs)) ||
	    load_bytes(ctx, pkt->l4_offset, &asked->echo, sizeof(asked->echo)) ||
	    asked->echo.code || !is_ours(asked->macs.to) || is_group(asked->macs.from))
		return OUTCOME_NOT_UDP_TCP;
	if (pkt->family == FAMILY_IPV4 && pkt->proto == IPPROTO_ICMP)
		is_made = make_echo_reply4(ctx, pkt, asked);
	else if (pkt->family == FAMILY_IPV6 && pkt->proto == IPPROTO_ICMPV6)
		is_made = make_echo_reply6(ctx, pkt, asked);
	if (!is_made)
		return OUTCOME_NOT_UDP_TCP;

	set_macs(&asked->macs, asked->macs.from);
	store_bytes(ctx, 0, &asked->macs, sizeof(asked->macs));
	store_bytes(ctx, pkt->l4_offset, &asked->echo, sizeof(asked->echo));
	prepare_answer();
	return OUTCOME_ECHO_ANSWERED;
}

/*
 * Once a packet is parsed, and before the rules are asked: what is said between neighbours alone is
 * no rule's, not even one of all protocols. The slot is noted for whoever decides from here on.
 */
static __always_inline __u32 answer_neighbour(struct hook_ctx *ctx, __u32 live, __u32 outcome)
{
	struct scratch *mine = this_cpu_scratch();

	if (!mine) /* never; the verifier doesn't know */
		return outcome;
	mine->decided.slot = live & LIVE_SLOT;
	if (outcome == OUTCOME_NOT_IP)
		return answer_arp(ctx);
	if (!outcome && mine->parsed.fragment == WHOLE && mine->parsed.proto == IPPROTO_ICMPV6)
		return answer_solicitation(ctx);
	return outcome;
}

#endif
