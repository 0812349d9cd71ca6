/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the program remembers of packets that it has seen. */
#ifndef __ABI_FLOW_H__
#define __ABI_FLOW_H__

#include "vmlinux.h"
#include "abi/backend.h"
#include "abi/limits.h"

/*
 * A flow, in the packet's byte order. word[0]: source and destination port, 16 bits
 * each from the lowest, VLAN identifier, 8 bits protocol, 8 bits family; then
 * source and destination address, for IPv4 in word[1].
 */
struct flow_key {
	__u64 word[5];
};

/* What rules said about a flow, as long as the rules are of this generation; odd: about none. */
struct flow {
	__u64 generation;
	struct flow_key key;
	struct backend backend;
};

struct flow_set {
	struct flow way[FLOW_WAYS];
};

/* Where the first fragment went; its key has the datagram's identification for the ports. */
struct first_fragment {
	__u64 seen; /* CLOCK_MONOTONIC, ns */
	struct backend backend;
};

_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct flow) == 112, "flow");
_Static_assert(sizeof(struct flow_set) == FLOW_WAYS * sizeof(struct flow), "flow_set");
_Static_assert(sizeof(struct first_fragment) == 72, "first_fragment");
_Static_assert(FLOW_WAYS == 2, "flow_cache.h tries two");

#endif
