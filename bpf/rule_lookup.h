/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the rule with the longest source prefix for a flow's protocol, port and VLAN. One hash
 * table holds the rules of all prefix lengths. It is asked once for each length that rules of the
 * service have, from the longest. `make bench` compares that with an LPM trie.
 */
#ifndef __RULE_LOOKUP_H__
#define __RULE_LOOKUP_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/flow.h"
#include "abi/rule.h"
#include "maps.h"

struct lookup {
	struct rule_key key;
	__u64 saddr[2];	  /* the whole address, in host byte order, the first bits in saddr[0] */
	__u64 lengths[3]; /* the prefix lengths not yet tried: see struct prefix_lengths */
	__u32 longest;	  /* the prefix length of a whole address */
	struct rule *rule;
};

/*
 * The number of the bit that is set, found without a branch (Leiserson et al., 1998). In a section
 * of its own, because that of the interface's constants is pinned.
 */
static const __u8 bit_of[64] SEC(".rodata.bits") = {
	0,  1,	48, 2,	57, 49, 28, 3,	61, 58, 50, 42, 38, 29, 17, 4,	62, 55, 59, 36, 53, 51,
	43, 22, 45, 39, 33, 30, 24, 18, 12, 5,	63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,	13, 8,	7,  6,
};

static __always_inline __u32 lowest_bit(__u64 word)
{
	return bit_of[(word & -word) * 0x03f79d71b4cb0a89ull >> 58];
}

/* A word with its first bits set, 1 to 64 of them. */
static __always_inline __u64 first_bits(__u32 bits)
{
	return ~0ull << ((64 - bits) & 63);
}

/* A step of bpf_loop: 1 ends it. */
static long try_next_length(__u32 step, void *arg)
{
	struct lookup *lookup = arg;
	__u64 high = 0, low = 0;
	__u32 word = 0, prefixlen;

	if (!lookup->lengths[0])
		word = lookup->lengths[1] ? 1 : 2;
	if (!lookup->lengths[word])
		return 1;
	prefixlen = lookup->longest - word * 64 - lowest_bit(lookup->lengths[word]);
	lookup->lengths[word] &= lookup->lengths[word] - 1;

	if (prefixlen > 64) {
		high = lookup->saddr[0];
		low = lookup->saddr[1] & first_bits(prefixlen - 64);
	} else if (prefixlen > 0) {
		high = lookup->saddr[0] & first_bits(prefixlen);
	}
	lookup->key.saddr[0] = bpf_htonl(high >> 32);
	lookup->key.saddr[1] = bpf_htonl(high);
	lookup->key.saddr[2] = bpf_htonl(low >> 32);
	lookup->key.saddr[3] = bpf_htonl(low);
	lookup->key.prefixlen = prefixlen;
	lookup->rule = bpf_map_lookup_elem(&rules, &lookup->key);
	return lookup->rule != NULL;
}

/* The rule of a flow, if its source prefix has at least so many bits. */
static __always_inline struct rule *find_rule(const struct flow_key *flow, __u32 least)
{
	struct service_key key = {
		.port = flow->word[0] >> 16,
		.vlan = flow->word[0] >> 32,
		.proto = flow->word[0] >> 48,
		.family = flow->word[0] >> 56,
	};
	struct prefix_lengths *service = bpf_map_lookup_elem(&prefix_lengths, &key);
	struct lookup lookup = {};

	if (!service)
		return NULL;
	lookup.key.port = key.port;
	lookup.key.vlan = key.vlan;
	lookup.key.proto = key.proto;
	lookup.key.family = key.family;
	lookup.longest = 32;
	lookup.saddr[0] = (__u64)bpf_ntohl(flow->word[1]) << 32;
	if (key.family == FAMILY_IPV6) {
		lookup.longest = 128;
		lookup.saddr[0] = bpf_be64_to_cpu(flow->word[1]);
		lookup.saddr[1] = bpf_be64_to_cpu(flow->word[2]);
	}
	lookup.lengths[0] = service->lengths[0];
	lookup.lengths[1] = service->lengths[1];
	lookup.lengths[2] = service->lengths[2];
	bpf_loop(129, try_next_length, &lookup, 0);
	return lookup.key.prefixlen >= least ? lookup.rule : NULL;
}

#endif
