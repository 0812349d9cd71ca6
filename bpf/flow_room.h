/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Room for a new entry: a free one, or else one that the command has removed, or that of a
 * connection whose time is over, or that of the connection that nobody used for the longest time. A
 * TCP connection that is established has to stay: no flood of new ones takes its place.
 */
#ifndef __FLOW_ROOM_H__
#define __FLOW_ROOM_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/connection.h"
#include "flow_hash.h"
#include "flow_state.h"
#include "flow_table.h"
#include "scratch.h"

/* How many victims are tried: another CPU may be faster. */
#define VICTIMS 4

/* Takes an entry if it is free. */
static __always_inline bool take_free(struct flow_tags *tags, __u32 number)
{
	struct flow_entry *entry = entry_at(number);

	return entry && !*(volatile __u32 *)&tags->tag[number % FLOW_WAYS] &&
	       take(entry, FLOW_FREE);
}

/* Takes an entry if the command has removed its connection. */
static __always_inline bool take_removed(__u32 number)
{
	struct flow_entry *entry = entry_at(number);

	return entry && id_of(entry) == FLOW_REMOVED && take(entry, FLOW_REMOVED);
}

/* A free entry of a bucket, which is then taken, or NO_ENTRY. The search starts at `way`. */
__noinline __u32 take_free_of(__u32 bucket, __u32 way)
{
	struct flow_tags *tags = tags_at(bucket);

	if (!tags) /* never; the verifier doesn't know */
		return NO_ENTRY;
	for (__u32 i = 0; i < FLOW_WAYS; i++) {
		__u32 number = bucket * FLOW_WAYS + (way + i) % FLOW_WAYS;

		if (take_free(tags, number))
			return number;
	}
	return NO_ENTRY;
}

/* The lower, the sooner a connection has to go: first those whose time is over, then those that do
 * not go both ways, and of these the one that was seen longest ago. */
static __always_inline __u64 rank(__u32 state, __u32 seen, __u32 now)
{
	if (is_over(state, seen, now))
		return seen;
	return (state == STATE_BOTH_WAYS ? 2ull : 1ull) << 32 | seen;
}

/* Whether an entry may make room now. */
static __always_inline bool may_go(__u64 id, __u32 state, __u32 seen, __u32 now)
{
	if (id == FLOW_REMOVED)
		return true;
	return is_id(id) && (!is_established(state) || is_over(state, seen, now));
}

/* Makes an entry the victim if it has to go sooner than the victim so far. */
__noinline __u32 consider(__u32 number, __u32 now)
{
	struct victim *victim = scratch_victim();
	struct flow_entry *entry = entry_at(number);
	__u32 state, seen;
	__u64 id, ranked;

	if (!victim || !entry) /* never; the verifier doesn't know */
		return 0;
	id = id_of(entry);
	state = *(volatile __u8 *)&entry->state;
	seen = *(volatile __u32 *)&entry->seen;
	if (!may_go(id, state, seen, now))
		return 0;
	ranked = id == FLOW_REMOVED ? 0 : rank(state, seen, now);
	if (victim->id && victim->rank <= ranked)
		return 0;
	victim->rank = ranked;
	victim->id = id;
	victim->number = number;
	return 0;
}

/* Takes the victim's entry, and ends its connection if it has one. */
static __always_inline bool take_victim(const struct victim *victim)
{
	if (victim->id == FLOW_REMOVED)
		return take_removed(victim->number);
	if (!take_connection(victim->number, victim->id, 1))
		return false;
	count_flow(victim->rank >> 32 ? FLOW_EVICTED : FLOW_EXPIRED);
	return true;
}

/* Finds an entry in one of two buckets that may go, or is removed already. It is then taken. */
__noinline __u32 evict(__u32 first, __u32 second, __u32 now)
{
	struct victim *victim = scratch_victim();

	if (!victim) /* never; the verifier doesn't know */
		return NO_ENTRY;
	victim->id = 0;
	for (__u32 way = 0; way < FLOW_WAYS; way++) {
		consider(first * FLOW_WAYS + way, now);
		consider(second * FLOW_WAYS + way, now);
	}
	return victim->id && take_victim(victim) ? victim->number : NO_ENTRY;
}

/* An entry where a flow of that hash is looked for. It is taken. NO_ENTRY: there is no room. */
__noinline __u32 take_room(__u64 hash, __u32 now)
{
	const struct flow_table *table = the_table();
	__u32 first, second, number;

	if (!table)
		return NO_ENTRY;
	first = first_bucket(hash, table->bucket_mask);
	second = second_bucket(hash, table->bucket_mask);
	number = first * FLOW_WAYS + first_way(hash);
	/* Its tag, which is still there, may be the flow's own, and would be met by each packet. */
	if (take_removed(number))
		return number;
	number = take_free_of(first, first_way(hash));
	if (number == NO_ENTRY)
		number = take_free_of(second, first_way(hash));
	for (int i = 0; i < VICTIMS && number == NO_ENTRY; i++)
		number = evict(first, second, now);
	return number;
}

#endif
