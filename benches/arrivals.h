/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counts frames by the server that they are addressed to. */
#ifndef __ARRIVALS_H__
#define __ARRIVALS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define SERVERS 16

const volatile __u32 first_server = 0; /* host byte order; the others follow */

struct vlan_tag {
	__be16 tci;
	__be16 type; /* of what follows */
};

/* Packets by server. The last element counts all other destinations. */
struct arrivals {
	__u64 packets[SERVERS + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrivals);
} arrived SEC(".maps");

static __always_inline void count(__u32 server)
{
	__u32 zero = 0;
	struct arrivals *arrivals = bpf_map_lookup_elem(&arrived, &zero);

	if (arrivals)
		arrivals->packets[server < SERVERS ? server : SERVERS]++;
}

/* The number of the server. An IPv6 address of a server ends with its IPv4 address. */
static __always_inline __u32 server_of(void *data, void *end)
{
	struct ethhdr *eth = data;
	struct vlan_tag *tag = data + sizeof(*eth);
	void *network = tag;
	__be16 type;
	__be32 *last_word;

	if ((void *)(tag + 1) > end)
		return SERVERS;
	type = eth->h_proto;
	if (type == bpf_htons(ETH_P_8021Q)) {
		type = tag->type;
		network = tag + 1;
	}
	if (type == bpf_htons(ETH_P_IP))
		last_word = &((struct iphdr *)network)->daddr;
	else if (type == bpf_htons(ETH_P_IPV6))
		last_word = &((struct ipv6hdr *)network)->daddr[3];
	else
		return SERVERS;
	if ((void *)(last_word + 1) > end)
		return SERVERS;
	return bpf_ntohl(*last_word) - first_server;
}

#endif
