/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tells the sender of a packet that is longer than the egress device's MTU what would fit:
 * "fragmentation needed" (RFC 1191), "packet too big" (RFC 8201). The frame itself becomes the
 * answer, and goes back out of the interface.
 */
#ifndef __TOO_BIG_H__
#define __TOO_BIG_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "abi/ledger.h"
#include "abi/outcomes.h"
#include "abi/rule.h"
#include "checksum.h"
#include "egress_checks.h"
#include "hook.h"
#include "interface.h"
#include "ledger.h"
#include "parse.h"

#define IP_DF 0x4000 /* RFC 791: don't fragment */

#define LINK_MAX    (sizeof(struct ethhdr) + MAX_TAGS * sizeof(struct tag))
#define ANSWER4_MAX 576 /* bytes of the IP packet (RFC 1812, section 4.3.2.3) */
#define ANSWER6_MAX                                                                                \
	1280 /* RFC 4443, section 3.2; and the least MTU of IPv6 (RFC 8200, section 5) */
#define ANSWER_HOPS 64
#define ANSWER_TOS  0xc0 /* internetwork control (RFC 1812, section 4.3.2.5) */

struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be16 mtu_high; /* of ICMPv6 alone */
	__be16 mtu;
};

struct answer4 {
	struct iphdr ip;
	struct icmphdr icmp;
};

struct answer6 {
	struct ipv6hdr ip;
	struct icmphdr icmp;
};

/* The packet, as far as its answer needs it. Lengths and offsets are in bytes. */
struct too_big {
	__u64 src[2]; /* IPv4 in the first half of the first word */
	__u64 dst[2];
	__u32 size; /* of the frame */
	__u32 ip_offset;
	__u32 ip_len;
	__u32 l4_offset;
	__u32 partial; /* where the checksum is, if it may be partial */
	__u32 proto;
	__u32 family;
	__u32 mtu; /* what would fit */
};

/* Memory of this CPU: for as long as an answer takes, and when the next one may be sent. */
struct answering {
	__u64 due; /* if all were sent evenly: CLOCK_MONOTONIC, ns */
	struct too_big packet;
	struct answer4 answer4;
	struct answer6 answer6;
	__u8 link[LINK_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answering);
} answering SEC(".maps");

static __always_inline struct answering *this_cpu_answering(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&answering, &zero);
}

/* For each CPU of each interface: 1,000 answers in a second, and so many at once. */
#define ANSWER_INTERVAL 1000000ull /* ns */
#define ANSWER_BURST	50

static __always_inline bool may_answer_now(struct answering *mine)
{
	__u64 now = bpf_ktime_get_ns();

	if (mine->due < now)
		mine->due = now;
	if (mine->due - now > (ANSWER_BURST - 1) * ANSWER_INTERVAL)
		return false;
	mine->due += ANSWER_INTERVAL;
	return true;
}

/* Errors are not answered by errors (RFC 1812, section 4.3.2.7; RFC 4443, section 2.4). */
static __always_inline bool is_icmp_error(struct hook_ctx *ctx, const struct too_big *packet)
{
	__u8 type;

	if (packet->proto != IPPROTO_ICMP && packet->proto != IPPROTO_ICMPV6)
		return false;
	if (load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
		return true;
	if (packet->proto == IPPROTO_ICMPV6)
		return type < 128 || type == 137; /* redirect */
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/*
 * Everywhere but natively, the skb goes on saying that the quoted checksum is partial. A device
 * that completes it would make the answer's own checksum wrong. So it gets the one value that
 * completing does not change: with S for the sum of the other bytes, completing makes -(S + value)
 * of it, so -S/2. Receivers do not check a quoted packet.
 */
static __always_inline void settle_partial(struct hook_ctx *ctx, __u32 start, __u32 check,
					   __u32 end)
{
	__u16 value = 0;
	__u32 sum;

	store_bytes(ctx, check, &value, sizeof(value));
	sum = sum_bytes(ctx, start, end - start);
	value = 0xffff - (sum & 1 ? sum + 0xffff : sum) / 2;
	store_bytes(ctx, check, &value, sizeof(value));
}

/* quoted is the sum over the packet that is quoted. */
static __always_inline void write_answer4(struct hook_ctx *ctx, struct answering *mine, __u32 len,
					  __u64 quoted)
{
	const struct too_big *packet = &mine->packet;
	struct iphdr *ip = &mine->answer4.ip;
	struct icmphdr *icmp = &mine->answer4.icmp;

	__builtin_memset(&mine->answer4, 0, sizeof(mine->answer4));
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = ANSWER_TOS;
	ip->tot_len = bpf_htons(len);
	ip->frag_off = bpf_htons(IP_DF);
	ip->ttl = ANSWER_HOPS;
	ip->protocol = IPPROTO_ICMP;
	ip->saddr = packet->dst[0];
	ip->daddr = packet->src[0];
	ip->check = ~fold(sum_words((__be32 *)ip, sizeof(*ip) / 4));
	icmp->type = 3;
	icmp->code = 4;
	icmp->mtu = bpf_htons(packet->mtu);
	icmp->check = ~fold(quoted + sum_words((__be32 *)icmp, sizeof(*icmp) / 4));
	store_answer(ctx, packet->ip_offset, &mine->answer4, sizeof(mine->answer4),
		     sizeof(mine->answer4));
}

static __always_inline void write_answer6(struct hook_ctx *ctx, struct answering *mine, __u32 len,
					  __u64 quoted)
{
	const struct too_big *packet = &mine->packet;
	struct ipv6hdr *ip = &mine->answer6.ip;
	struct icmphdr *icmp = &mine->answer6.icmp;
	__u32 payload = len - sizeof(*ip);
	__u64 pseudo = bpf_htons(IPPROTO_ICMPV6) + bpf_htons(payload);

	__builtin_memset(&mine->answer6, 0, sizeof(mine->answer6));
	ip->version = 6;
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = ANSWER_HOPS;
	__builtin_memcpy(ip->saddr, packet->dst, sizeof(packet->dst));
	__builtin_memcpy(ip->daddr, packet->src, sizeof(packet->src));
	icmp->type = 2;
	icmp->mtu = bpf_htons(packet->mtu);
	pseudo += sum_words(ip->saddr, 8) + sum_words((__be32 *)icmp, sizeof(*icmp) / 4);
	icmp->check = ~fold(quoted + pseudo);
	store_answer(ctx, packet->ip_offset, &mine->answer6, sizeof(mine->answer6),
		     sizeof(mine->answer6));
}

/* The MAC addresses change places; the tags stay. */
static __always_inline void turn_around(__u8 *link)
{
	__u8 to[ETH_ALEN];

	__builtin_memcpy(to, link, ETH_ALEN);
	__builtin_memcpy(link, link + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(link + ETH_ALEN, to, ETH_ALEN);
}

/* Has the kernel send the frame back once the program returns the verdict for it. */
static __always_inline void prepare_answer(struct hook_ctx *ctx)
{
	if (interface.answers != ANSWERS_REDIRECTED)
		return;
	bpf_redirect(interface.ifindex, 0);
	record_redirect(ctx, interface.ifindex, UNATTRIBUTED);
}

/*
 * Makes the frame the answer to the packet that refuse_too_long has described. What can fail comes
 * before the first byte that is written. Neither static nor inlined, so that the verifier walks it
 * once; and called where little is on the stack, because it calls others.
 */
__noinline __u32 answer_too_big(struct hook_ctx *ctx)
{
	__u32 head = sizeof(struct answer4), most = ANSWER4_MAX, quoted, end, sum;
	struct answering *mine = this_cpu_answering();
	const struct too_big *packet;

	if (!mine) /* never; the verifier doesn't know */
		return OUTCOME_TOO_LONG;
	packet = &mine->packet;
	if (packet->family == FAMILY_IPV6) {
		head = sizeof(struct answer6);
		most = ANSWER6_MAX;
	}
	if (is_icmp_error(ctx, packet))
		return OUTCOME_TOO_LONG;
	if (!may_answer_now(mine))
		return OUTCOME_TOO_LONG_DROPPED;
	quoted = packet->ip_len < most - head ? packet->ip_len : most - head;
	if (load_bytes(ctx, 0, mine->link, sizeof(mine->link)) || !make_room(ctx, head))
		return OUTCOME_TOO_LONG;
	if (!adjust_tail(ctx, (int)(packet->ip_offset + quoted - packet->size)))
		return undo_room(ctx, head) ? OUTCOME_TOO_LONG : OUTCOME_TOO_LONG_DROPPED;

	end = packet->ip_offset + head + quoted;
	if (packet->partial && interface.mode != MODE_NATIVE)
		settle_partial(ctx, packet->l4_offset + head, packet->partial + head, end);
	sum = sum_bytes(ctx, packet->ip_offset + head, quoted);
	turn_around(mine->link);
	store_answer(ctx, 0, mine->link, sizeof(mine->link), head);
	if (packet->family == FAMILY_IPV6)
		write_answer6(ctx, mine, head + quoted, sum);
	else
		write_answer4(ctx, mine, head + quoted, sum);
	prepare_answer(ctx);
	return OUTCOME_TOO_BIG_SENT;
}

/* Where the checksum of a whole packet is that may be partial; 0: it is none. */
static __always_inline __u32 partial_checksum(const struct packet *pkt)
{
	if (!pkt->check || pkt->fragment != WHOLE || *pkt->check != fold(pseudo_header(pkt)))
		return 0;
	return pkt->l4_offset + (pkt->proto == IPPROTO_UDP
					 ? __builtin_offsetof(struct udphdr, check)
					 : __builtin_offsetof(struct tcphdr, check));
}

/*
 * Whether the packet's sender can be told. A frame that is too long for the interface itself was
 * never on a wire: it holds several segments, each of which may fit.
 */
static __always_inline bool has_answer(struct hook_ctx *ctx, const struct packet *pkt, __u32 ip_len,
				       __u32 mtu)
{
	if (!interface.answers || pkt->fragment == LATER)
		return false;
	if (pkt->not_unicast_dst || pkt->not_unicast_src || is_group(pkt->eth->h_source))
		return false;
	if (pkt->family == FAMILY_IPV4 && !(((struct iphdr *)pkt->ip)->frag_off & bpf_htons(IP_DF)))
		return false;
	if (pkt->family == FAMILY_IPV6 && mtu < ANSWER6_MAX)
		return false;
	return ip_len > mtu &&
	       packet_length(ctx, pkt) <= longest_packet(ctx, interface.ifindex, pkt->tags);
}

/*
 * Whether an answer that is too long for the client's device is left to the stack, because its
 * sender cannot be told: it may be divided, or holds several segments. What the stack itself would
 * tell goes to the address that the client asked, and is lost. Neither static nor inlined, so that
 * the verifier walks it once.
 */
__noinline __u32 is_left_to_stack(struct hook_ctx *ctx, __u32 ifindex, __u32 ip_offset, __u32 size,
				  __u32 tags)
{
	__u32 mtu = longest_packet(ctx, ifindex, tags), len;
	struct iphdr ip = {};
	bool is_divided;

	if (!interface.answers || !mtu ||
	    size - ip_offset > longest_packet(ctx, interface.ifindex, tags))
		return 1;
	load_bytes(ctx, ip_offset, &ip, sizeof(ip));
	if (ip.version == 4) {
		len = bpf_ntohs(ip.tot_len);
		is_divided = !(ip.frag_off & bpf_htons(IP_DF));
	} else {
		len = bpf_ntohs(((struct ipv6hdr *)&ip)->payload_len);
		len += len ? sizeof(struct ipv6hdr) : 0;
		is_divided = mtu < ANSWER6_MAX;
	}
	return is_divided || (len && len <= mtu); /* 0 stands for more than 65,535 bytes */
}

/* Writes down what the answer to a packet needs. */
static __always_inline void describe(struct too_big *packet, const struct packet *pkt, __u32 ip_len,
				     __u32 mtu)
{
	packet->src[0] = pkt->flow.word[1];
	packet->src[1] = pkt->flow.word[2];
	packet->dst[0] = pkt->flow.word[3];
	packet->dst[1] = pkt->flow.word[4];
	if (pkt->family == FAMILY_IPV4)
		packet->dst[0] = pkt->flow.word[1] >> 32;
	packet->size = pkt->size;
	packet->ip_offset = pkt->ip_offset;
	packet->ip_len = ip_len;
	packet->l4_offset = pkt->l4_offset;
	packet->partial = partial_checksum(pkt);
	packet->proto = pkt->proto;
	packet->family = pkt->family;
	packet->mtu = mtu;
}

/*
 * The outcome of a packet that is too long for the egress device. OUTCOME_TOO_BIG_SENT says that
 * answer_too_big has to follow, which may fail.
 */
static __always_inline __u32 refuse_too_long(struct hook_ctx *ctx, const struct packet *pkt,
					     const struct action *action)
{
	struct answering *mine = this_cpu_answering();
	__u32 ip_len, mtu;

	if (action->too_long == TOO_LONG_DROP)
		return OUTCOME_TOO_LONG_DROPPED;
	if (action->too_long == TOO_LONG_PASS || !mine)
		return OUTCOME_TOO_LONG;
	mtu = longest_packet(ctx, action->ifindex, tags_after(pkt, action));
	ip_len = ip_length(ctx, pkt);
	if (!has_answer(ctx, pkt, ip_len, mtu))
		return OUTCOME_TOO_LONG;
	describe(&mine->packet, pkt, ip_len, mtu);
	return OUTCOME_TOO_BIG_SENT;
}

#endif
