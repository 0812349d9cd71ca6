/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors go where the packets go that they are about (RFC 5508, sections 3 and 4). An error
 * quotes such a packet, and goes the other way. So its connection is that of the quoted flow with
 * both ends exchanged, and it is sent on like a packet of that flow:
 *
 *   to the backend, where the quoted packet is an answer as the client got it;
 *   to the client, where it is a request as the server got it.
 *
 * The quoted packet becomes what the receiver sent: it gets the flow of the connection's other
 * entry. Where nothing is translated (--keep-ip), the rules alone say where the error goes.
 *
 * An error neither keeps a connection alive nor changes its state, because anybody can send one.
 */
#ifndef __ICMP_ERROR_H__
#define __ICMP_ERROR_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "abi/connection.h"
#include "answer.h"
#include "balance.h"
#include "checksum.h"
#include "connection.h"
#include "converge.h"
#include "follow.h"
#include "hook.h"
#include "parse.h"
#include "policy.h"
#include "scratch.h"

#define ICMP_HEADER  8 /* bytes, with what depends on the type */
#define ICMP_CHECK   2 /* bytes before the checksum */
#define QUOTED_LEAST 8 /* bytes after the quoted IP header (RFC 792) */

static __always_inline struct quote *scratch_quote(void)
{
	struct scratch *mine = this_cpu_scratch();

	return mine ? &mine->quote : NULL;
}

/* Unreachable, time exceeded, parameter problem; and for IPv6, packet too big. */
static __always_inline bool is_error_type(const struct packet *pkt, __u32 type)
{
	if (pkt->family == FAMILY_IPV6)
		return pkt->proto == IPPROTO_ICMPV6 && type >= 1 && type <= 4;
	return pkt->proto == IPPROTO_ICMP && (type == 3 || type == 11 || type == 12);
}

/* A whole error from one host to another. One in fragments is left to the rules. */
static __always_inline bool is_error(struct hook_ctx *ctx, const struct packet *pkt)
{
	__u8 type = 0;

	if (pkt->fragment != WHOLE || pkt->not_unicast_dst || pkt->not_unicast_src)
		return false;
	if (pkt->proto != IPPROTO_ICMP && pkt->proto != IPPROTO_ICMPV6)
		return false;
	if (pkt->l4_len < ICMP_HEADER || load_bytes(ctx, pkt->l4_offset, &type, 1))
		return false;
	return is_error_type(pkt, type);
}

/* The quoted IPv4 header. Only the first fragment of a datagram has ports. */
static __always_inline bool read_quoted_ipv4(struct hook_ctx *ctx, struct quote *quote, __u32 end)
{
	struct iphdr ip;

	if (quote->ip_offset + sizeof(ip) > end ||
	    load_bytes(ctx, quote->ip_offset, &ip, sizeof(ip)))
		return false;
	if (ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(IP_OFFSET))
		return false;
	quote->flow.word[1] = ip.daddr | (__u64)ip.saddr << 32;
	quote->l4_offset = quote->ip_offset + ip.ihl * 4;
	quote->proto = ip.protocol;
	return true;
}

/* The same of IPv6, with its extension headers. */
static __always_inline bool read_quoted_ipv6(struct hook_ctx *ctx, struct quote *quote, __u32 end)
{
	struct extensions at = {.end = end};
	struct ipv6hdr ip;

	if (quote->ip_offset + sizeof(ip) > end ||
	    load_bytes(ctx, quote->ip_offset, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	__builtin_memcpy(&quote->flow.word[1], ip.daddr, sizeof(ip.daddr));
	__builtin_memcpy(&quote->flow.word[3], ip.saddr, sizeof(ip.saddr));
	at.offset = quote->ip_offset + sizeof(ip);
	at.next = ip.nexthdr;
	if (skip_extensions(ctx, &at) || at.fragment == LATER)
		return false;
	quote->l4_offset = at.offset;
	quote->proto = at.next;
	return true;
}

/* Where the checksum of the quoted packet is. That of TCP is mostly beyond what is quoted. */
static __always_inline __u32 quoted_check(const struct quote *quote, __u32 end)
{
	__u32 tcp = quote->l4_offset + offsetof(struct tcphdr, check);

	if (quote->proto == IPPROTO_UDP)
		return quote->l4_offset + offsetof(struct udphdr, check);
	return quote->proto == IPPROTO_TCP && tcp + sizeof(__sum16) <= end ? tcp : 0;
}

/* The first word of the flow the other way. */
static __always_inline bool read_quoted_ports(struct hook_ctx *ctx, struct quote *quote,
					      const struct packet *pkt, __u32 end)
{
	__u32 ports = 0;

	if (quote->l4_offset + QUOTED_LEAST > end ||
	    load_bytes(ctx, quote->l4_offset, &ports, sizeof(ports)))
		return false;
	if (quote->proto != IPPROTO_UDP && quote->proto != IPPROTO_TCP &&
	    quote->proto != IPPROTO_SCTP)
		ports = 0;
	quote->flow.word[0] = (__u32)(ports >> 16 | ports << 16) | (__u64)pkt->vlan << 32 |
			      (__u64)quote->proto << 48 | pkt->family << 56;
	return true;
}

/* An error goes to the sender of the packet that it quotes. */
static __always_inline bool is_to_sender(const struct packet *pkt, const struct quote *quote)
{
	if (pkt->family == FAMILY_IPV4)
		return pkt->flow.word[1] >> 32 == quote->flow.word[1] >> 32;
	return pkt->flow.word[3] == quote->flow.word[3] && pkt->flow.word[4] == quote->flow.word[4];
}

/*
 * Reads what the packet that parse_any has read quotes, if it is an error. 0: it is none, or the
 * quote cannot be read.
 */
__noinline __u32 read_quote(struct hook_ctx *ctx)
{
	struct scratch *mine = this_cpu_scratch();
	const struct packet *pkt;
	struct quote *quote;
	__u32 end;

	if (!mine || !is_error(ctx, &mine->parsed))
		return 0;
	pkt = &mine->parsed;
	quote = &mine->quote;
	end = pkt->l4_offset + pkt->l4_len;
	quote->ip_offset = pkt->l4_offset + ICMP_HEADER;
	quote->flow.word[2] = 0;
	quote->flow.word[3] = 0;
	quote->flow.word[4] = 0;
	if (pkt->family == FAMILY_IPV4 ? !read_quoted_ipv4(ctx, quote, end)
				       : !read_quoted_ipv6(ctx, quote, end))
		return 0;
	if (!read_quoted_ports(ctx, quote, pkt, end) || !is_to_sender(pkt, quote))
		return 0;
	quote->check_offset = quoted_check(quote, end);
	return 1;
}

/* Copies the flow of an entry. False where the entry is not the connection's any more. */
static __always_inline bool copy_flow(struct flow_key *flow, const struct flow_entry *entry,
				      __u64 id)
{
	volatile const struct flow_entry *now;
	__u64 all = 0;

	if (!entry || id_of(entry) != id)
		return false;
	now = (void *)entry + after(id);
	for (int i = 0; i < 5; i++) {
		flow->word[i] = now->key.word[i];
		all ^= flow->word[i];
	}
	return id_of((void *)entry + after(all)) == id;
}

/* The connection of the quoted packet. It is not counted, and its clock is not renewed. */
__noinline __u32 find_quoted(__u32 slot)
{
	const struct flow_table *table = the_table();
	struct quote *quote = scratch_quote();
	struct ruleset *ruleset;
	struct flow_entry *entry;
	struct seen_entry seen;
	__u64 hash;

	slot &= LIVE_SLOT;
	ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	if (!quote || !table || !ruleset)
		return NOT_FOUND;
	hash = hash_flow(ruleset->hash_key, &quote->flow, is_ipv6_flow(&quote->flow));
	quote->number = search_flow(&quote->flow, hash, table->bucket_mask);
	entry = entry_at(quote->number);
	if (!entry || !read_entry(entry, &quote->flow, &seen))
		return NOT_FOUND;
	if (is_over(seen.state, *(volatile __u32 *)&entry->seen, seconds()))
		return NOT_FOUND;
	quote->id = seen.id;
	quote->line = seen.backend;
	quote->revision = seen.backend >> 32;
	quote->counter = *(volatile __u32 *)&entry->counter;
	if (!copy_flow(&quote->now, entry_at(seen.peer), seen.id))
		return NOT_FOUND;
	return seen.way == WAY_REQUEST ? FOUND_REQUEST : FOUND_ANSWER;
}

static __always_inline void decide_line(struct scratch *mine, __u32 line, __u32 counter,
					bool translated)
{
	mine->decided.line = line;
	mine->decided.counter = counter;
	mine->decided.slot = mine->quote.slot;
	mine->decided.sport = 0;
	mine->decided.known = true;
	mine->quote.translated = translated;
}

/*
 * Sends the error to the backend whose action is in a line. False where the device is gone, or
 * where the client has seen another address than the one that it asked.
 */
static __always_inline bool send_to_backend(struct scratch *mine, __u32 line, __u32 counter)
{
	const struct action *action = line_at(line);

	if (!action || !(action->flags & (REWRITE_KEEP_IP | REWRITE_REPLY_NAT)))
		return false;
	if (!is_still_possible(action))
		return false;
	decide_line(mine, line, counter, !(action->flags & REWRITE_KEEP_IP));
	return true;
}

/*
 * Sends the error to the client. One from the server itself comes from the address that the client
 * asked; one from a router keeps its source.
 */
static __always_inline bool send_to_client(struct scratch *mine)
{
	const struct flow_key *error = &mine->parsed.flow, *server = &mine->quote.flow;
	bool by_server = is_ipv6_flow(server) ? error->word[1] == server->word[1] &&
							error->word[2] == server->word[2]
					      : (__u32)error->word[1] == (__u32)server->word[1];

	if (!make_answer(mine->quote.number, mine->quote.id))
		return false;
	if (!by_server)
		mine->action.flags &= ~REWRITE_SNAT;
	decide_line(mine, 0, UNATTRIBUTED, true);
	return true;
}

/*
 * Like look_again, but nothing changes: the line of the connection's backend among the rule's. The
 * caller has written the rule's counter, and finds the backend's there.
 */
__noinline __u32 find_quoted_line(__u32 chosen, __u32 first, __u32 size)
{
	struct scratch *mine = this_cpu_scratch();
	const struct flow_entry *request;
	const struct action *action;
	__u32 line;

	if (!mine) /* never; the verifier doesn't know */
		return 0;
	request = entry_at(mine->quote.number);
	if (!request)
		return 0;
	mine->opening.request = mine->quote.flow;
	mine->opening.kept = mine->quote.now;
	mine->opening.port = request->port;
	mine->opening.tags = mine->parsed.tags;
	mine->opening.inner_vlan = mine->parsed.inner_vlan;
	line = find_kept(chosen, first, size);
	action = line_at(line);
	if (action && size)
		mine->quote.counter = action->counter;
	return line;
}

/* A packet of the flow that the error is sent along. */
static __always_inline void describe_along(struct packet *along, const struct scratch *mine)
{
	const struct packet *error = &mine->parsed;
	__u64 low;

	along->flow = mine->quote.flow;
	along->family = error->family;
	along->proto = mine->quote.proto;
	along->vlan = error->vlan;
	along->inner_vlan = error->inner_vlan;
	if (error->family == FAMILY_IPV4) {
		along->not_unicast_src =
			is_special4(along->flow.word[1]) | is_less((__u32)along->flow.word[1], 1);
		return;
	}
	low = along->flow.word[1] | along->flow.word[2];
	along->not_unicast_src =
		is_special6(along->flow.word[1]) | is_less((__u32)(low | low >> 32), 1);
}

/* Decides by the rules for packets of the flow that the error is sent along. */
__noinline __u32 ask_rules_along(__u32 kind)
{
	struct scratch *mine = this_cpu_scratch();
	struct decision decision = {};
	struct packet along = {};
	struct choice choice = {};
	__u32 outcome, line;

	if (!mine) /* never; the verifier doesn't know */
		return 0;
	describe_along(&along, mine);
	decision.slot = mine->quote.slot;
	outcome = decide_by_rules(&along, &choice, &decision);
	if (outcome == OUTCOME_NO_RULE) /* the only rule of a service may not take the packet */
		choice.size = 0;
	if (kind == FOUND_REQUEST) {
		mine->quote.counter = choice.counter;
		line = find_quoted_line(decision.line, choice.first, choice.size);
		if (line && send_to_backend(mine, line, mine->quote.counter))
			return 1;
	}
	return !outcome && decision.action->flags & REWRITE_KEEP_IP &&
	       send_to_backend(mine, decision.line, decision.counter);
}

/*
 * Decides about an error by what read_quote has read. 0: its quote belongs to no connection, and to
 * no rule that keeps addresses; the error is a packet like others.
 */
__noinline __u32 decide_by_quote(__u32 live)
{
	struct scratch *mine = this_cpu_scratch();
	__u32 kind = NOT_FOUND, slot = live & LIVE_SLOT;
	struct ruleset *ruleset;

	ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	if (!mine || !ruleset) /* never; the verifier doesn't know */
		return 0;
	mine->quote.slot = slot;
	if (live & LIVE_CONNECTIONS)
		kind = find_quoted(slot);
	if (kind == FOUND_ANSWER)
		return send_to_client(mine);
	if (answers_only(slot))
		return 0;
	if (kind == FOUND_REQUEST && !is_newer(ruleset->revision, mine->quote.revision) &&
	    send_to_backend(mine, mine->quote.line, mine->quote.counter))
		return 1;
	return ask_rules_along(kind);
}

/* Writes a word of the frame. What changes in sums: the old word, inverted, and the new one. */
static __always_inline __u64 write_word(struct hook_ctx *ctx, __u32 offset, __be32 word)
{
	__be32 old = 0;

	load_bytes(ctx, offset, &old, sizeof(old));
	store_bytes(ctx, offset, &word, sizeof(word));
	return (__u64)(__u32)~old + word;
}

/* Updates a checksum of the frame, and returns what that changes in sums over it. */
static __always_inline __u64 write_check(struct hook_ctx *ctx, __u32 offset, __u64 change,
					 bool is_udp)
{
	__sum16 old = 0, now;

	load_bytes(ctx, offset, &old, sizeof(old));
	if (is_udp && !old) /* the sender computed none */
		return 0;
	now = update_checksum(old, change);
	if (is_udp && !now)
		now = 0xffff;
	store_bytes(ctx, offset, &now, sizeof(now));
	return (__u64)(__u16)~old + now;
}

/* Writes both addresses of a flow. The quoted packet goes the way of the entry that has it. */
static __always_inline __u64 write_addresses(struct hook_ctx *ctx, __u32 ip_offset,
					     const struct flow_key *flow)
{
	const __be32 *words = (const __be32 *)&flow->word[1];
	__u32 offset = ip_offset + offsetof(struct iphdr, saddr), count = 2;
	__u64 change = 0;

	if (is_ipv6_flow(flow)) {
		offset = ip_offset + offsetof(struct ipv6hdr, saddr);
		count = 8;
	}
	for (__u32 i = 0; i < 8; i++) {
		if (i < count)
			change += write_word(ctx, offset + 4 * i, words[i]);
	}
	return change;
}

/* ICMPv6's checksum covers the addresses of the error itself, which were rewritten. */
static __always_inline __u64 pseudo_change(struct hook_ctx *ctx, struct packet *was, __u32 shift)
{
	__be32 now[8] = {};

	load_bytes(ctx, was->ip_offset - shift + offsetof(struct ipv6hdr, saddr), now, sizeof(now));
	return fold(bpf_csum_diff((__be32 *)&was->flow.word[1], sizeof(now), now, sizeof(now), 0));
}

/*
 * Gives the quoted packet the flow that it had for the receiver of the error. The frame is
 * rewritten otherwise, and may have more tags or less in front.
 */
__noinline __u32 translate_quote(struct hook_ctx *ctx)
{
	struct scratch *mine = this_cpu_scratch();
	struct quote *quote;
	__u64 addrs, ports, change;
	__u32 shift;

	if (!mine || !mine->quote.translated)
		return 0;
	quote = &mine->quote;
	shift = mine->parsed.size - frame_size(ctx);
	addrs = write_addresses(ctx, quote->ip_offset - shift, &quote->now);
	ports = write_word(ctx, quote->l4_offset - shift, quote->now.word[0]);
	change = addrs + ports;
	if (mine->parsed.family == FAMILY_IPV4)
		change += write_check(ctx, quote->ip_offset - shift + offsetof(struct iphdr, check),
				      addrs, false);
	else
		change += pseudo_change(ctx, &mine->parsed, shift);
	if (quote->check_offset)
		change += write_check(ctx, quote->check_offset - shift, addrs + ports,
				      quote->proto == IPPROTO_UDP);
	write_check(ctx, mine->parsed.l4_offset - shift + ICMP_CHECK, change, false);
	return 1;
}

#endif
