/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the program remembers of packets that it has seen. */
#ifndef __ABI_FLOW_H__
#define __ABI_FLOW_H__

#include "vmlinux.h"

#include "abi/action.h"

#define MAX_FRAGMENTED 8192 /* fragmented datagrams that are redirected, at a time */
#define MAX_PASSED     8192 /* fragmented datagrams that pass, at a time */

/*
 * A flow, in the packet's byte order. word[0] has, from the lowest bits: source port and
 * destination port (16 bits each), VLAN identifier (16), protocol (8), family (8). Then come source
 * and destination address; those of IPv4 are both in word[1].
 */
struct flow_key {
	__u64 word[5];
};

/* Where a first fragment went. In its key, the datagram's identification replaces the ports. */
struct first_fragment {
	__u64 seen; /* CLOCK_MONOTONIC, ns */
	struct action action;
};

_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct first_fragment) == 72, "first_fragment");

#endif
