// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Finds the longest prefix of random addresses in two ways: in a trie, and in a hash table that is
 * asked once for each prefix length in use.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "prefixes.h"

#define LOOKUPS 64 /* in one run */

struct value {
	__u8 bytes[72];
};

struct trie_key {
	__u32 prefixlen; /* in bits, the service's included */
	__be16 port;
	__u16 vlan;
	__u8 proto;
	__u8 family;
	__u16 zero;
	__be32 addr[4];
};
#define SERVICE_BITS 64

struct hash_key {
	__be32 addr[4];
	__be16 port;
	__u16 vlan;
	__u8 proto;
	__u8 family;
	__u8 prefixlen;
	__u8 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct trie_key);
	__type(value, struct value);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct hash_key);
	__type(value, struct value);
} hash SEC(".maps");

const volatile __be16 port = 0;
__u64 hits = 0;
__u64 sum = 0;

static __always_inline bool in_nothing(__u32 address)
{
	sum += address; /* or the compiler would remove the draw */
	return true;
}

static __always_inline bool in_trie(__u32 address)
{
	struct trie_key key = {
		.prefixlen = SERVICE_BITS + 32,
		.port = port,
		.proto = IPPROTO_UDP,
		.family = 4,
		.addr = {bpf_htonl(address)},
	};

	return bpf_map_lookup_elem(&trie, &key);
}

static __always_inline bool in_hash(__u32 address)
{
	struct hash_key key = {.port = port, .proto = IPPROTO_UDP, .family = 4};

	for (__u32 i = 0; i < MAX_LENGTHS && i < length_count; i++) {
		key.prefixlen = lengths[i];
		key.addr[0] = bpf_htonl(~0ull << (32 - key.prefixlen) & address);
		if (bpf_map_lookup_elem(&hash, &key))
			return true;
	}
	return false;
}

#define RUNS(found)                                                                                \
	do {                                                                                       \
		for (int i = 0; prefixes && i < LOOKUPS; i++)                                      \
			hits += found(draw());                                                     \
		return XDP_PASS;                                                                   \
	} while (0)

/* Draws the addresses and looks none up: what the other two spend on drawing. */
SEC("xdp")
int control(struct xdp_md *ctx)
{
	RUNS(in_nothing);
}

SEC("xdp")
int ask_trie(struct xdp_md *ctx)
{
	RUNS(in_trie);
}

SEC("xdp")
int ask_hash(struct xdp_md *ctx)
{
	RUNS(in_hash);
}

char _license[] SEC("license") = "Dual BSD/GPL";
