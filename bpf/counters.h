/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counts packets by outcome and by backend. Each CPU has its own counters, so no increment is lost.
 */
#ifndef __COUNTERS_H__
#define __COUNTERS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/counters.h"
#include "abi/limits.h"
#include "maps.h"

static __always_inline void count(void *map, __u32 key, __u32 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(map, &key);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

static __always_inline void count_outcome(__u32 outcome, __u32 bytes)
{
	count(&outcomes, outcome, bytes);
}

/* Counts for a backend, or for a rule without one. */
static __always_inline void count_action(__u32 counter, __u32 bytes)
{
	__u32 bank = counter / BANK_COUNTERS;
	__u32 index = counter % BANK_COUNTERS;
	void *map = bpf_map_lookup_elem(&counters, &bank);

	if (map)
		count(map, bpf_get_smp_processor_id() * BANK_COUNTERS + index, bytes);
}

#endif
