/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps that the ledger's program for the tc hook reads, too: see maps.h. */
#ifndef __COMMON_MAPS_H__
#define __COMMON_MAPS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/limits.h"
#include "abi/ruleset.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct ruleset);
} rulesets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_EGRESS);
	__type(key, __u32);
	__type(value, __u32);
} egress SEC(".maps");

#endif
