/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a rule to one of its backends. The command fills a weighted Maglev table
 * (Eisenbud et al., NSDI 2016) for each rule with more than one backend; the
 * program hashes the flow to a slot. The table has the same size for every
 * rule: with another size, a flow would move whenever the size changed.
 */
#ifndef __BALANCE_H__
#define __BALANCE_H__

/* Multiplies with xor-shifts between them; the upper bits are the well-mixed ones. */
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

static __always_inline const struct backend *member(__u32 set, __u32 index)
{
	struct set_key key = {.set = set, .index = index};

	return bpf_map_lookup_elem(&backends, &key);
}

/* Aims the redirect at a backend; false where its device is gone. */
static __always_inline bool aim(const struct backend *backend)
{
	return backend && bpf_redirect_map(&egress, backend->ifindex, 0) == XDP_REDIRECT;
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
	if (aim(member(search->set, search->index))) {
		search->found = true;
		return 1;
	}
	search->index = search->index + 1 < search->count ? search->index + 1 : 0;
	return 0;
}

/*
 * One of several: the flow's own backend or, where its device is gone, another one
 * that differs from flow to flow.
 */
static __always_inline const struct backend *choose(const struct rule *rule,
						    const struct packet *pkt)
{
	struct search search = {.set = rule->set, .count = rule->backends};
	__u32 hash = flow_hash(pkt);
	const struct backend *backend = member(search.set, maglev_index(search.set, hash));

	if (aim(backend))
		return backend;

	search.index = hash % search.count;
	bpf_loop(search.count, aim_next, &search, 0);
	return search.found ? member(search.set, search.index) : NULL;
}

/*
 * The backend at which the redirect is then aimed, before a byte of the packet has
 * changed. NULL where no backend has a device.
 */
static __always_inline const struct backend *balance(const struct rule *rule,
						     const struct packet *pkt)
{
	if (rule->backends > 1)
		return choose(rule, pkt);
	return aim(&rule->only) ? &rule->only : NULL;
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
