/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What became of a packet. Every counter is per CPU, so no increment is lost. */
#ifndef __COUNT_H__
#define __COUNT_H__

static __always_inline void count(void *map, __u32 key, __u64 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(map, &key);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

#endif
