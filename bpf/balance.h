/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a rule to one of its backends. The command fills a weighted Maglev table
 * (Eisenbud et al., NSDI 2016) for each rule with more than one backend; the
 * program hashes the flow to a slot. The table has the same size for every
 * rule: with another size, a flow would move whenever the size changed.
 */
#ifndef __BALANCE_H__
#define __BALANCE_H__

/* A 64-bit multiply and shift, twice. The upper bits are the well-mixed ones. */
static __always_inline __u32 flow_hash(const struct packet *pkt)
{
	__u64 addrs = (__u64)bpf_ntohl(pkt->ip->saddr) << 32 | bpf_ntohl(pkt->ip->daddr);
	__u64 ports = (__u64)bpf_ntohs(pkt->sport) << 32 | (__u64)bpf_ntohs(pkt->dport) << 8 |
		      pkt->ip->protocol;
	__u64 hash;

	hash = (addrs ^ 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
	hash ^= hash >> 32;
	hash = (hash ^ ports) * 0x94d049bb133111ebull;
	hash ^= hash >> 29;
	hash *= 0xbf58476d1ce4e5b9ull;
	return hash >> 32;
}

static __always_inline __u32 maglev_index(__u32 set, __u32 hash)
{
	__u32 slot = (__u64)hash * MAGLEV_SLOTS >> 32;
	struct set_key key = {.set = set, .index = slot / MAGLEV_CHUNK};
	struct maglev_chunk *chunk = bpf_map_lookup_elem(&maglev, &key);

	return chunk ? chunk->slot[slot % MAGLEV_CHUNK] : 0;
}

/* Aims the redirect at a backend; NULL where its device is gone. */
static __always_inline struct backend *aim(__u32 set, __u32 index)
{
	struct set_key key = {.set = set, .index = index};
	struct backend *backend = bpf_map_lookup_elem(&backends, &key);

	if (!backend || bpf_redirect_map(&egress, backend->ifindex, 0) != XDP_REDIRECT)
		return NULL;
	return backend;
}

struct search {
	__u32 set;
	__u32 count;
	__u32 index;
	bool found;
};

/* A step of bpf_loop: 1 ends it. */
static long aim_next(__u32 step, void *arg)
{
	struct search *search = arg;

	(void)step;
	if (aim(search->set, search->index)) {
		search->found = true;
		return 1;
	}
	search->index = search->index + 1 < search->count ? search->index + 1 : 0;
	return 0;
}

/*
 * The flow's own backend or, where its device is gone, another one that differs
 * from flow to flow. On return the redirect is aimed: nothing can fail any more,
 * so the packet may be rewritten.
 */
static __always_inline struct backend *balance(const struct rule *rule, const struct packet *pkt)
{
	__u32 n = rule->backends, set = rule->set;
	struct search search = {.set = set, .count = n};
	struct set_key key = {.set = set};
	struct backend *backend;
	__u32 hash;

	if (n <= 1)
		return aim(set, 0);

	hash = flow_hash(pkt);
	backend = aim(set, maglev_index(set, hash));
	if (backend)
		return backend;

	search.index = hash % n;
	bpf_loop(n, aim_next, &search, 0);
	key.index = search.index;
	return search.found ? bpf_map_lookup_elem(&backends, &key) : NULL;
}

/*
 * Whether the egress device carries the frame; the kernel would drop it without a
 * word. Not asked of what every IPv4 link carries, 68 bytes (RFC 791).
 */
static __always_inline bool fits(struct xdp_md *ctx, const struct backend *backend, __u32 size)
{
	__u32 mtu = 0;

	if (size <= sizeof(struct ethhdr) + 68)
		return true;
	return bpf_check_mtu(ctx, backend->ifindex, &mtu, 0, 0) == 0;
}

#endif
