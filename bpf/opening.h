/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Begins connections. What is known of the packet lies in scratch memory: the verifier would lose
 * what it knows of pointers that are handed on, and allows 512 bytes of stack for a whole chain of
 * calls.
 */
#ifndef __OPENING_H__
#define __OPENING_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "abi/connection.h"
#include "flow_entry.h"
#include "flow_hash.h"
#include "flow_room.h"
#include "flow_state.h"
#include "flow_table.h"
#include "heap.h"
#include "maps.h"
#include "scratch.h"

/* How many source ports of the range are tried: where one in a hundred is free, one of them mostly
 * is. A range that is not larger is searched from one end to the other. */
#define PORTS_TRIED  256
#define LAST_ATTEMPT (PORTS_TRIED + 1)

/* How often a lock is tried that another CPU holds for a microsecond or two. */
#define LOCK_ROUNDS 32
#define LOCK_TRIES  32 /* in each */

/* What becomes of an attempt to begin a connection. */
#define OPENED	   0
#define NO_ROOM	   1
#define PORT_TAKEN 2
#define PORT_FREE  3

/* Finds room for both entries, and writes them. */
__noinline __u32 insert_connection(__u64 answer_hash)
{
	struct opening *opening = scratch_opening();
	__u64 now = bpf_ktime_get_ns();
	__u32 request, answer;

	if (!opening) /* never; the verifier doesn't know */
		return NO_ROOM;
	answer = take_room(answer_hash, now / 1000000000);
	if (answer == NO_ENTRY)
		return NO_ROOM;
	request = take_room(opening->hash, now / 1000000000);
	if (request == NO_ENTRY) {
		release(answer);
		return NO_ROOM;
	}
	return write_connection(request, answer, answer_hash, now) ? OPENED : NO_ROOM;
}

/* Whether a connection whose time is not over has to go. If it may, it is noted for the last
 * attempt. */
static __always_inline bool may_take_port(struct opening *opening, const struct seen_entry *of,
					  __u32 seen, __u32 now)
{
	if (!gives_port_away(of->state, seen, now))
		return false;
	opening->idle_port = opening->port;
	return opening->is_last;
}

/*
 * What becomes of the attempt where an entry has the flow of the answers already: it is the same
 * connection, which another CPU has begun meanwhile; or one that is over, which goes; or another.
 */
__noinline __u32 meet(__u32 number)
{
	struct opening *opening = scratch_opening();
	struct flow_entry *answer = entry_at(number), *request;
	struct seen_entry seen, same;
	__u32 now, reason;

	if (!opening || !answer) /* never; the verifier doesn't know */
		return NO_ROOM;
	if (!read_entry(answer, &opening->answer, &seen) || seen.way != WAY_ANSWER)
		return PORT_TAKEN;
	request = entry_at(seen.peer);
	if (request && read_entry(request, &opening->request, &same)) {
		opening->port = same.port;
		request->packets++;
		request->bytes += opening->size;
		return OPENED;
	}
	/* Nobody looks for these answers, so others may have the same. */
	if (opening->answer.word[0] >> 56 & FLOW_UNSEEN)
		return PORT_FREE;
	now = seconds();
	reason = is_over(seen.state, answer->seen, now) ? FLOW_EXPIRED : FLOW_EVICTED;
	if (reason == FLOW_EVICTED && !may_take_port(opening, &seen, answer->seen, now))
		return PORT_TAKEN;
	if (!end_connection(number, seen.id))
		return PORT_TAKEN;
	count_flow(reason);
	return PORT_FREE;
}

/* Whether one of some tries takes the lock of a flow's hash. */
static __always_inline bool try_lock(__u64 hash, int tries)
{
	__u32 index = hash % FLOW_LOCKS;
	__u32 *lock = bpf_map_lookup_elem(&flow_locks, &index);

	if (!lock) /* never; the verifier doesn't know */
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < tries; i++) {
		if (__sync_val_compare_and_swap(lock, 0, 1) == 0)
			return true;
	}
	return false;
}

/* Neither static nor inlined, so that the verifier walks these tries once. */
__noinline __u32 spin(__u64 hash)
{
	return try_lock(hash, LOCK_TRIES);
}

/* Takes the lock of a flow's hash. 0: another CPU keeps it, which the host may have stopped. */
__noinline __u32 lock_flow(__u64 hash)
{
	if (try_lock(hash, 1))
		return 1;
	for (int i = 0; i < LOCK_ROUNDS; i++) {
		if (spin(hash))
			return 1;
	}
	return 0;
}

static __always_inline void unlock_flow(__u64 hash)
{
	__u32 index = hash % FLOW_LOCKS;
	__u32 *lock = bpf_map_lookup_elem(&flow_locks, &index);

	if (lock)
		__sync_lock_test_and_set(lock, 0);
}

/* Answers to another source come to this host, which may have a connection from any port of its
 * own. */
static __always_inline bool needs_other_port(const struct action *action)
{
	return action->flags & REWRITE_SNAT && action->flags & REWRITE_REPLY_NAT;
}

/*
 * The source port of an attempt; 0: the packet's own. Packets of one flow try the same ports, so
 * that two CPUs begin its connection once. False where there is none.
 */
static __always_inline bool choose_port(struct opening *opening, const struct flow_table *table,
					const struct action *action, __u32 attempt)
{
	__u32 first = table->first_port, last = table->last_port, number;

	opening->is_last = attempt == LAST_ATTEMPT;
	opening->port = opening->is_last ? opening->idle_port : 0;
	if (opening->is_last)
		return opening->port;
	if (!attempt)
		return !needs_other_port(action);
	if (attempt > last - first + 1 || last < first)
		return false;
	number = last - first < PORTS_TRIED ? (__u32)(opening->hash >> 40) + attempt
					    : (__u32)(mix(opening->hash, attempt) >> 32);
	opening->port = bpf_htons(first + number % (last - first + 1));
	return true;
}

/* One attempt. */
__noinline __u32 try_port(__u32 attempt)
{
	const struct flow_table *table = the_table();
	struct opening *opening = scratch_opening();
	__u32 number, result;
	struct action *action;
	__u64 hash;

	if (!opening || !table)
		return NO_ROOM;
	action = line_at(opening->line);
	if (!action)
		return NO_ROOM;
	if (!choose_port(opening, table, action, attempt))
		return PORT_TAKEN;
	make_answer_flow(opening, action);
	/* A packet from the server's own address: its answers would be found as requests. */
	if (is_same_flow(&opening->answer, &opening->request))
		return PORT_TAKEN;
	hash = hash_flow(opening->hash_key, &opening->answer, is_ipv6_flow(&opening->answer));
	if (!lock_flow(hash))
		return NO_ROOM;
	number = search_flow(&opening->answer, hash, table->bucket_mask);
	result = number == NO_ENTRY ? PORT_FREE : meet(number);
	if (result == PORT_FREE)
		result = insert_connection(hash);
	unlock_flow(hash);
	return result;
}

/*
 * Begins the connection of the packet in scratch memory, for the backend's action in a line. The
 * source port with which the packet has to leave is then there. The result is OPENED, or why it
 * cannot be remembered: NO_ROOM or PORT_TAKEN.
 */
__noinline __u32 begin_connection(__u32 line, __u32 counter)
{
	struct opening *opening = scratch_opening();
	__u32 result = PORT_TAKEN;

	if (!opening) /* never; the verifier doesn't know */
		return NO_ROOM;
	opening->line = line;
	opening->counter = counter;
	opening->idle_port = 0;
	opening->hash =
		hash_flow(opening->hash_key, &opening->request, is_ipv6_flow(&opening->request));
	for (__u32 attempt = 0; attempt <= LAST_ATTEMPT; attempt++) {
		result = try_port(attempt);
		if (result != PORT_TAKEN)
			break;
	}
	if (result != OPENED)
		count_flow(FLOW_REFUSED);
	return result;
}

#endif
