/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reads lines: see abi/ruleset.h. */
#ifndef __HEAP_H__
#define __HEAP_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/limits.h"
#include "abi/ruleset.h"
#include "maps.h"

/* NULL for no line that the command writes. */
static __always_inline void *line_at(__u32 line)
{
	__u32 bank = line / BANK_LINES;
	__u32 index = line % BANK_LINES;
	void *lines_of_bank = bpf_map_lookup_elem(&lines, &bank);

	return lines_of_bank ? bpf_map_lookup_elem(lines_of_bank, &index) : NULL;
}

/* LIVE_*: the slot that decides this packet, and whether it may belong to a connection. */
static __always_inline __u32 read_live(void)
{
	__u32 zero = 0;
	volatile __u32 *bits = bpf_map_lookup_elem(&live, &zero);

	return bits ? *bits : 0;
}

/* The line of the service of a protocol and port; 0: no rule can take such a packet. */
static __always_inline __u32 service_line(__u32 slot, __u32 class, __u32 port)
{
	__u32 number = slot * SLOT_PORTS + class * PORTS + port;
	__u32 index = number / PACKED_PORTS;
	struct port_lines *packed = bpf_map_lookup_elem(&ports, &index);

	return packed ? *(volatile __u32 *)&packed->line[number % PACKED_PORTS] : 0;
}

#endif
