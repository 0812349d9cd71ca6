/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Writes down what is decided, in a program that somebody asks for that: one that no packet meets,
 * or a stand-in. See `shows` in abi/interface.h. The verifier removes it from all others.
 */
#ifndef __SHOW_H__
#define __SHOW_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/shown.h"
#include "interface.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shown);
} shown SEC(".maps");

static __always_inline struct shown *this_cpu_shown(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&shown, &zero);
}

/* Neither static nor inlined, like the next one, so that callers need no stack for it. */
__noinline int write_down(__u32 counter, __u32 ifindex, __u32 sport, __u32 known)
{
	struct shown *mine = this_cpu_shown();

	if (!mine) /* never; the verifier doesn't know */
		return 0;
	mine->decided = 1;
	mine->counter = counter;
	mine->ifindex = ifindex;
	mine->sport = sport;
	mine->known = known;
	return 0;
}

__noinline int write_down_slot(__u32 slot)
{
	struct shown *mine = this_cpu_shown();

	if (mine)
		mine->maglev_slot = slot + 1;
	return 0;
}

/* The slot of a Maglev table that the packet's hash says. */
static __always_inline void show_slot(__u32 slot)
{
	if (interface.shows)
		write_down_slot(slot);
}

#endif
