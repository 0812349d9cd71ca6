/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether somebody wants to see a frame. Later fragments follow the first one, as they do with
 * rules: they have no ports, and those of IPv6 don't say their protocol.
 */
#ifndef __WANTED_H__
#define __WANTED_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/flow.h"
#include "abi/rule.h"
#include "abi/wanted.h"
#include "hook.h"
#include "parse.h"

const volatile struct wanted wanted SEC(".rodata.wanted") = {};

/* The fragmented datagrams whose first fragment is wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTED);
	__type(key, struct flow_key);
	__type(value, __u32);
} datagrams SEC(".maps");

/* 0 is no protocol that is compared: it is that of an extension header (IPPROTO_HOPOPTS). */
static __always_inline __u32 wanted_proto(const struct packet *pkt)
{
	return pkt->family == FAMILY_IPV4 ? wanted.proto4 : wanted.proto6;
}

static __always_inline bool compares_ports(void)
{
	return wanted.first_port || wanted.last_port != 0xffff;
}

static __always_inline bool has_wanted_link(const struct packet *pkt)
{
	return (!wanted.vlan || pkt->vlan == wanted.vlan) &&
	       (!wanted.inner_vlan || pkt->inner_vlan == wanted.inner_vlan);
}

static __always_inline bool has_wanted_addresses(const struct packet *pkt)
{
	if (wanted.family && pkt->family != wanted.family)
		return false;
	return (pkt->flow.word[1] & wanted.mask[0]) == wanted.addrs[0] &&
	       (pkt->flow.word[2] & wanted.mask[1]) == wanted.addrs[1] &&
	       (pkt->flow.word[3] & wanted.mask[2]) == wanted.addrs[2] &&
	       (pkt->flow.word[4] & wanted.mask[3]) == wanted.addrs[3];
}

/* What later fragments don't have. */
static __always_inline bool has_wanted_segment(const struct packet *pkt)
{
	__u32 proto = wanted_proto(pkt), port;

	if (proto && pkt->proto != proto)
		return false;
	if (!compares_ports())
		return true;
	port = bpf_ntohs(pkt->flow.word[0] >> 16);
	return has_ports(pkt) && port >= wanted.first_port && port <= wanted.last_port;
}

/* The key of its datagram, by RFC 791; RFC 8200 leaves the protocol out. */
static __always_inline struct flow_key datagram_of(const struct packet *pkt)
{
	struct flow_key key = pkt->flow;

	key.word[0] = pkt->identification | (__u64)pkt->vlan << 32 | (__u64)pkt->family << 56;
	if (pkt->family == FAMILY_IPV4)
		key.word[0] |= (__u64)pkt->proto << 48;
	return key;
}

static __always_inline bool has_wanted_first(const struct packet *pkt)
{
	struct flow_key datagram = datagram_of(pkt);

	return bpf_map_lookup_elem(&datagrams, &datagram);
}

static __always_inline void remember_datagram(const struct packet *pkt)
{
	struct flow_key datagram = datagram_of(pkt);
	__u32 one = 1;

	bpf_map_update_elem(&datagrams, &datagram, &one, 0);
}

/*
 * Neither static nor inlined, so that what it has on the stack is gone when others run. A packet
 * that cannot be read is wanted by who wants all.
 */
__noinline __u32 is_wanted(struct hook_ctx *ctx)
{
	struct packet pkt = {.size = frame_size(ctx)};
	bool is_later;

	if (wanted.is_any)
		return true;
	if (parse(ctx, &pkt, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return false;
	is_later = pkt.fragment == LATER;
	if (!has_wanted_link(&pkt) || !has_wanted_addresses(&pkt))
		return false;
	if (!(is_later ? has_wanted_first(&pkt) : has_wanted_segment(&pkt)))
		return false;
	if (pkt.fragment == FIRST)
		remember_datagram(&pkt);
	return true;
}

#endif
