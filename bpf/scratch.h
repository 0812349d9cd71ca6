/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Memory of this CPU, for as long as its packet takes: what is too large for the stack. The program
 * is not interrupted by another run of it on the same CPU, because softirqs are off.
 */
#ifndef __SCRATCH_H__
#define __SCRATCH_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/flow.h"
#include "abi/ruleset.h"
#include "parse.h"

/* What a lookup compares. */
struct query {
	__u64 addrs[4];	    /* as in struct flow_key */
	struct place place; /* the packet's; inner_vlan 0: it has no inner tag */
	__u32 family;
	__u32 slot;
	/* Rules whose prefixes are shorter than this do not take the packet. 0 for most packets. 1
	 * where only a rule that names an address may take it. */
	__u32 least_dst_len;
	__u32 least_src_len;
};

/* What a found rule says. */
struct found {
	__u32 target;
	__u32 counter;
};

struct masked {
	__u64 addrs[4];
};

/* Where a search stands. */
struct search {
	struct query query;
	struct probe probe;
	struct place place;
	struct masked masked;
	__u64 hash_key;
	__u32 buckets;
	__u32 bucket_mask;
	__u32 guards;
	__u32 guard_mask;
	__u32 service; /* the next line of probes */
	__u32 guarded; /* for which of them there may be a rule: a bit for each */
	struct found found;
};

/* The packet of a connection that begins, or that is looked at again, and what it makes of it. */
struct opening {
	struct flow_key request; /* the packet's flow */
	struct flow_key answer;	 /* that of its answers */
	struct flow_key kept;	 /* that of the answers of the connection as it is */
	__u64 hash_key;
	__u64 hash;	/* of the request */
	__u32 revision; /* of the rule set */
	__u32 line;	/* of the backend's action there */
	__u32 counter;
	__u32 size; /* of the frame, in bytes */
	__u32 flags;
	__u32 tags;
	__u32 inner_vlan;
	__u32 is_last;	  /* no port was free: an idle connection gives its port away */
	__be16 port;	  /* the source port with which requests leave; 0: their own */
	__be16 idle_port; /* one whose connection may give it away; 0: none was found so far */
	__u8 macs[12];
};

/* The connection that has to go where another one needs its room. */
struct victim {
	__u64 id; /* 0: there is none */
	__u64 rank;
	__u32 number;
};

/* The packet that an ICMP error quotes. Offsets are from the start of the frame as it came. */
struct quote {
	struct flow_key flow; /* of packets that go the other way */
	struct flow_key now;  /* that of the connection's other entry: the quote gets it */
	__u64 id;	      /* of the connection */
	__u32 number;	      /* of the entry that has the first flow */
	__u32 line;
	__u32 revision;
	__u32 counter;
	__u32 slot;
	__u32 ip_offset;
	__u32 l4_offset;
	__u32 check_offset; /* 0: the checksum is not quoted, or its protocol is not known */
	__u32 proto;
	__u32 translated; /* 0: the quote stays as it is */
};

#define SUM_CHUNK 512 /* bytes; bpf_csum_diff takes no more */

/* What was decided for the packet. */
struct decided {
	__u32 line; /* of the action; 0: it is the action below */
	__u32 counter;
	__u32 slot;
	__be16 sport;
	__u16 known;
};

struct scratch {
	struct packet parsed; /* any but the plain ones, and without addresses */
	struct decided decided;
	struct action action;	  /* one that lies in no line */
	struct flow_key datagram; /* key in the maps of fragments */
	struct first_fragment first;
	struct search search;
	struct opening opening;
	struct victim victim;
	struct quote quote;
	__be32 chunk[SUM_CHUNK / 4]; /* of a segment that is summed */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

static __always_inline struct scratch *this_cpu_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline struct search *scratch_search(void)
{
	struct scratch *mine = this_cpu_scratch();

	return mine ? &mine->search : NULL;
}

static __always_inline struct opening *scratch_opening(void)
{
	struct scratch *mine = this_cpu_scratch();

	return mine ? &mine->opening : NULL;
}

static __always_inline struct victim *scratch_victim(void)
{
	struct scratch *mine = this_cpu_scratch();

	return mine ? &mine->victim : NULL;
}

#endif
