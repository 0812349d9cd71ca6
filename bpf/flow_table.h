/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The table of connections: where the entry of a flow is, and how entries are taken and given back.
 * abi/connection.h says how it lies in memory.
 */
#ifndef __FLOW_TABLE_H__
#define __FLOW_TABLE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/connection.h"
#include "flow_hash.h"
#include "maps.h"

#define NO_ENTRY 0xffffffff

/* NULL for no entry of the table. */
static __always_inline struct flow_entry *entry_at(__u32 number)
{
	__u32 bank = number / FLOW_BANK_ENTRIES;
	__u32 index = number % FLOW_BANK_ENTRIES;
	void *entries = bpf_map_lookup_elem(&flow_entries, &bank);

	return entries ? bpf_map_lookup_elem(entries, &index) : NULL;
}

static __always_inline struct flow_tags *tags_at(__u32 bucket)
{
	__u32 bank = bucket / FLOW_BANK_BUCKETS;
	__u32 index = bucket % FLOW_BANK_BUCKETS;
	void *tags = bpf_map_lookup_elem(&flow_tags, &bank);

	return tags ? bpf_map_lookup_elem(tags, &index) : NULL;
}

static __always_inline const struct flow_table *the_table(void)
{
	__u32 zero = 0;
	const struct flow_table *table = bpf_map_lookup_elem(&flow_table, &zero);

	return table && table->buckets ? table : NULL;
}

static __always_inline __u64 id_of(const struct flow_entry *entry)
{
	return *(volatile __u64 *)&entry->id;
}

static __always_inline bool is_id(__u64 id)
{
	return id > FLOW_REMOVED;
}

/*
 * 0, but computed from what was read. An address to which it is added is read after that, on weakly
 * ordered processors, too.
 */
static __always_inline __u64 after(__u64 read)
{
	asm volatile("%0 &= 0" : "+r"(read));
	return read;
}

/* What was read of an entry. */
struct seen_entry {
	__u64 id;
	__u64 backend; /* line, and the revision in the upper half */
	__u32 peer;
	__u8 state;
	__u8 way;
	__be16 port;
};

/* Reads an entry. False where it isn't the flow's, or became another's meanwhile. */
static __always_inline bool read_entry(const struct flow_entry *entry, const struct flow_key *flow,
				       struct seen_entry *seen)
{
	volatile const struct flow_entry *now;
	__u64 id = id_of(entry), first, all;

	if (!is_id(id))
		return false;
	now = (void *)entry + after(id);
	first = now->key.word[0];
	all = now->key.word[1];
	if (first != flow->word[0] || all != flow->word[1])
		return false;
	for (int i = 2; i < 5 && is_ipv6_flow(flow); i++) {
		__u64 word = now->key.word[i];

		if (word != flow->word[i])
			return false;
		all ^= word;
		asm volatile("" : "+r"(all)); /* or each word would lie on the stack */
	}
	seen->id = id;
	seen->backend = *(volatile __u64 *)&now->line;
	seen->peer = now->peer;
	seen->state = now->state;
	seen->way = now->way;
	seen->port = now->port;
	all ^= first ^ seen->backend ^ seen->peer ^ seen->state ^ seen->way ^ seen->port;
	return id_of((void *)entry + after(all)) == id;
}

/* The entry of a flow in one bucket, or NO_ENTRY. Global, so that the verifier walks it once. */
__noinline __u32 search_tags(struct flow_key *flow, __u32 bucket, __u32 tag)
{
	struct flow_tags *tags = tags_at(bucket);
	struct seen_entry seen;

	if (!flow || !tags) /* never; the verifier doesn't know */
		return NO_ENTRY;
#pragma unroll
	for (__u32 way = 0; way < FLOW_WAYS; way++) {
		const struct flow_entry *entry;

		if (*(volatile __u32 *)&tags->tag[way] != tag)
			continue;
		entry = entry_at(bucket * FLOW_WAYS + way);
		if (entry && read_entry(entry, flow, &seen))
			return bucket * FLOW_WAYS + way;
	}
	return NO_ENTRY;
}

/* The entry of a flow, or NO_ENTRY. */
__noinline __u32 search_flow(struct flow_key *flow, __u64 hash, __u32 mask)
{
	__u32 found;

	if (!flow)
		return NO_ENTRY;
	found = search_tags(flow, first_bucket(hash, mask), tag_of(hash));
	if (found != NO_ENTRY)
		return found;
	return search_tags(flow, second_bucket(hash, mask), tag_of(hash));
}

/* Changes an entry's id from what it was to FLOW_BUSY. Who does that may write the entry. */
static __always_inline bool take(struct flow_entry *entry, __u64 id)
{
	return __sync_val_compare_and_swap(&entry->id, id, FLOW_BUSY) == id;
}

/* Gives an entry back that was taken. */
static __always_inline void release(__u32 number)
{
	struct flow_tags *tags = tags_at(number / FLOW_WAYS);
	struct flow_entry *entry = entry_at(number);

	if (!tags || !entry) /* never; the verifier doesn't know */
		return;
	*(volatile __u32 *)&tags->tag[number % FLOW_WAYS] = 0;
	__sync_lock_test_and_set(&entry->id, FLOW_FREE);
}

/*
 * Takes both entries of a connection, of which `number` is one, and gives back the other one, and
 * this one, too, unless it is to be kept. 1: done. 0: another CPU is doing it.
 *
 * The request's entry is taken first, so that only one CPU can have a connection. Its answer's may
 * stand alone where the command was killed while it removed the connection.
 */
__noinline __u32 take_connection(__u32 number, __u64 id, __u32 keep)
{
	struct flow_entry *entry = entry_at(number), *peer;
	__u32 other;
	bool alone;

	if (!entry || !is_id(id))
		return 0;
	other = *(volatile __u32 *)&entry->peer;
	peer = entry_at(other);
	if (!peer)
		return 0;
	if (*(volatile __u8 *)&entry->way == WAY_REQUEST) {
		if (!take(entry, id))
			return 0;
		alone = !take(peer, id);
	} else {
		alone = !take(peer, id);
		if (alone && id_of(peer) == FLOW_BUSY)
			return 0;
		if (!take(entry, id)) {
			if (!alone)
				release(other);
			return 0;
		}
	}
	if (!alone)
		release(other);
	if (!keep)
		release(number);
	return 1;
}

static __always_inline __u32 end_connection(__u32 number, __u64 id)
{
	return take_connection(number, id, 0);
}

#endif
