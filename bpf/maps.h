/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps. Each interface has its own policy and outcomes. The others, and those of the ledger,
 * are pinned once for each network namespace and shared by all its interfaces. The hashes allocate
 * a value when it is written, so unused room costs the 16 bytes of its bucket.
 *
 * A change that moves a byte of a map's keys or values needs another number for that map in
 * src/datapath/schema.rs, and so does another meaning: otherwise two versions of the command
 * would misread each other's maps. The types in abi/ are __uN only and have no implicit padding,
 * because Rust reads and writes their bytes.
 */
#ifndef __MAPS_H__
#define __MAPS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "abi/connection.h"
#include "abi/counters.h"
#include "abi/flow.h"
#include "abi/limits.h"
#include "abi/outcomes.h"
#include "abi/policy.h"
#include "abi/ruleset.h"
#include "common_maps.h"

/* LIVE_*: the number of the slot whose rule set packets see. A write to it publishes the other's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} live SEC(".maps");

/* For each slot, class and port: the line of the service; 0: no rule takes such a packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * SLOT_PORTS / PACKED_PORTS);
	__type(key, __u32);
	__type(value, struct port_lines);
} ports SEC(".maps");

/* The lines. The command makes the banks. */
struct line_bank {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BANK_LINES);
	/* Sizes, not types: clang leaves the type of an inner map's value undefined, if it is new.
	 */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct line));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LINE_BANKS);
	__type(key, __u32);
	__array(values, struct line_bank);
} lines SEC(".maps");

/* Which lines of each bank are taken; for the command. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LINE_BANKS);
	__type(key, __u32);
	__type(value, struct bitmap);
} line_bitmaps SEC(".maps");

/* Which rules have each probe; for the command. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ROOM_PROBES);
	__type(key, struct probe);
	__type(value, struct probe_count);
} probes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTED);
	__type(key, struct flow_key);
	__type(value, struct first_fragment);
} fragments SEC(".maps");

/*
 * The datagrams that pass because a later fragment came first, and since when (CLOCK_MONOTONIC,
 * ns). Datagrams that no rule matches are here, too. In the fragments map, they would push out
 * those that are redirected.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PASSED);
	__type(key, struct flow_key);
	__type(value, __u64);
} passed_frags SEC(".maps");

/*
 * The backends' counters: first all of one CPU, then all of the next. That takes half of the memory
 * of a per-CPU array. The command makes the banks, for as many CPUs as there may be.
 */
struct counter_bank {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BANK_COUNTERS);
	/* Sizes, not types: clang leaves the type of an inner map's value undefined, if it is new.
	 */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct counter));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, COUNTER_BANKS);
	__type(key, __u32);
	__array(values, struct counter_bank);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTER_BANKS);
	__type(key, __u32);
	__type(value, struct bitmap);
} counter_bitmaps SEC(".maps");

/* Connections: the banks of the tags, and those of the entries. The command makes them. */
struct tag_bank {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOW_BANK_BUCKETS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct flow_tags));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FLOW_BANKS);
	__type(key, __u32);
	__array(values, struct tag_bank);
} flow_tags SEC(".maps");

struct entry_bank {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOW_BANK_ENTRIES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct flow_entry));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FLOW_BANKS);
	__type(key, __u32);
	__array(values, struct entry_bank);
} flow_entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_table);
} flow_table SEC(".maps");

/* 1: taken. Only the program takes them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_LOCKS);
	__type(key, __u32);
	__type(value, __u32);
} flow_locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FLOW_STATS);
	__type(key, __u32);
	__type(value, __u64);
} flow_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ROOM_LOCATORS);
	__type(key, __u32);
	__type(value, struct locator);
} locators SEC(".maps");

/* What earlier rule sets had, by revision and chunk: for the command alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, HISTORY_CHUNKS);
	__uint(key_size, 2 * sizeof(__u64));
	__uint(value_size, HISTORY_CHUNK);
} history SEC(".maps");

/*
 * Devices whose other end is in another network namespace: a device stands in the entry that its
 * index has in it, modulo their number. Of two that meet there, the first one is not known. For the
 * tc hook.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAIRED_ENTRIES);
	__type(key, __u32);
	__type(value, __u32);
} paired SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES_ROOM);
	__type(key, __u32);
	__type(value, struct counter);
} outcomes SEC(".maps");

/* By slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct policy);
} policy SEC(".maps");

#endif
