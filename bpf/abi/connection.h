/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections: what the program remembers of flows whose answers it has to translate, or that have
 * to keep their backend.
 *
 * A connection has two entries, one for each way, and each is found by the flow of the packets that
 * go this way. Entries stand in buckets of FLOW_WAYS; a flow may stand in one of two buckets, which
 * its hash says. A bucket has a line of tags, which tell where an entry may be that is looked for.
 *
 * All CPUs and interfaces use the table. Only who begins a connection takes a lock (see
 * FLOW_LOCKS); whoever reads or ends one does not. The word `id` says who owns an entry: whoever
 * changes it from what it was to FLOW_BUSY by an atomic compare-and-swap may write the entry, and
 * gives it its new id last. Who reads an entry reads its id first and again at the end: if it is
 * another, then the entry was another's meanwhile, and what was read is void.
 *
 * Tags and entries lie in banks, which the command makes: bank n has the tags of FLOW_BANK_BUCKETS
 * buckets, or their entries. The number of an entry is bucket * FLOW_WAYS + way.
 */
#ifndef __ABI_CONNECTION_H__
#define __ABI_CONNECTION_H__

#include "vmlinux.h"

#include "abi/flow.h"

#define FLOW_WAYS	  16
#define FLOW_BANKS	  512  /* at most; their number is a power of two */
#define FLOW_BANK_BUCKETS 1024 /* 8,192 connections */
#define FLOW_BANK_ENTRIES 16384

struct flow_tags {
	__u32 tag[FLOW_WAYS]; /* from the hash of the entry's flow; 0: the entry is free */
};

#define FLOW_FREE 0
#define FLOW_BUSY 1
/*
 * The command has ended the connection. Nobody owns the entry, so that a command that is killed
 * keeps none; whoever needs room takes it. The tag stays meanwhile: another connection may have
 * the entry by the time at which the command would clear it.
 */
#define FLOW_REMOVED 2

/*
 * In the key of an answer, added to the IP version: answers are not translated (a sticky rule with
 * another way back). No packet has such a flow, so the entry only says which backend the connection
 * has.
 */
#define FLOW_UNSEEN 128

/*
 * Two entries must not have the same flow of answers. So whoever looks for one and then makes it
 * holds one of these locks meanwhile; which one, the hash of that flow says.
 */
#define FLOW_LOCKS 4096

struct flow_entry {
	/* FLOW_*, or else the time of the connection's first packet (CLOCK_MONOTONIC, ns), in both
	 * of its entries. */
	__u64 id;
	struct flow_key key; /* of the packets that go this way */
	/* Of requests: line of the backend's action, and the lower half of the revision of the rule
	 * set in which that line was found. It is one word, which is read and written at once. */
	__u32 line;
	__u32 revision;
	__u32 peer;  /* number of the entry of the other way */
	__u8 state;  /* STATE_*, in both entries */
	__u8 way;    /* WAY_* */
	__be16 port; /* of requests: the source port with which they leave; 0: their own */

	__u64 packets;
	__u64 bytes;
	__u32 seen; /* time of the last packet: CLOCK_MONOTONIC, in seconds, up to two too low */
	__u32 tick; /* when that was written: jiffies / 256 */
	__u8 frame[12]; /* of answers: destination and source MAC with which they leave */
	__be16 vlan;	/* of answers: identifier of a tag that they get; 0: none */
	__u16 flags;	/* of answers: ANSWER_* */
	__u32 ifindex; /* of answers: the device by which they leave; of requests: where they arrive
			*/
	__u32 counter; /* of requests: the backend's */
	/* Of answers: of the key of their requests, so that most need not read the other entry,
	 * which is two cache lines more. */
	__u64 request_addrs; /* of IPv4: its word[1] */
	__u32 request_ports; /* of its word[0] */
	__u32 unused;
};
#define WAY_REQUEST 0
#define WAY_ANSWER  1

/* The device by which answers leave takes frames that are redirected natively. */
#define ANSWER_REACHABLE 1
/* It, or the reader behind it, completes partial L4 checksums. */
#define ANSWER_COMPLETES_CHECKSUM 2
/* Answers lose a tag, because the rule gave one to the requests. */
#define ANSWER_POPS 4

/*
 * The state of a connection, and for how many seconds it is kept without a packet. TCP: RFC 5382,
 * section 5 (4 minutes while it is opened or closed, 2 hours 4 minutes once it is established);
 * UDP: RFC 4787, section 4.3 (never less than 2 minutes, 5 minutes recommended).
 */
#define STATE_ONE_WAY	  0 /* UDP without an answer so far */
#define STATE_BOTH_WAYS	  1 /* UDP */
#define STATE_OPENING	  2 /* TCP: a SYN, or a later segment of a connection that was not known */
#define STATE_ANSWERED	  3 /* TCP: the server's SYN */
#define STATE_ESTABLISHED 4
#define STATE_FIN_REQUEST 5 /* TCP: the client has closed its side */
#define STATE_FIN_ANSWER  6 /* TCP: the server has */
#define STATE_CLOSED	  7 /* TCP: both have */
#define STATE_RESET	  8 /* TCP: one of them has reset it */
#define STATES		  9

#define TIMEOUT_ONE_WAY	    120
#define TIMEOUT_BOTH_WAYS   300
#define TIMEOUT_OPENING	    240
#define TIMEOUT_ESTABLISHED 7440
#define TIMEOUT_CLOSED	    240
#define TIMEOUT_RESET	    10

/* The only entry of the map flow_table. */
struct flow_table {
	__u32 bucket_mask; /* number of buckets - 1; a power of two */
	__u32 buckets;	   /* 0: there is no table yet */
	/* Source ports, both ends included; in the CPU's byte order. Connections whose source
	 * becomes another address get one of them, and so does the second of two that the server
	 * would see as one. */
	__u16 first_port;
	__u16 last_port;
	__u32 banks; /* how many the command gives it when it makes it; 0: as many as usual */
};

/*
 * Below Linux's net.ipv4.ip_local_port_range (32768 to 60999): with an address of this host as its
 * source, a connection could otherwise have the addresses and ports of one that this host has with
 * the server itself.
 */
#define FIRST_PORT 10000
#define LAST_PORT  32767

/*
 * Where no port is free, a connection gives its port to another one if it had no packet for so many
 * seconds, and is not an established one of TCP. That long a server that has closed a connection
 * takes no other one in its place (TIME_WAIT).
 */
#define PORT_KEPT 60

/* Keys of the map flow_stats. */
#define FLOW_NEW     0
#define FLOW_EXPIRED 1 /* its time was over when a packet came, or when its room was needed */
#define FLOW_EVICTED 2 /* its time was not over, and its room or its port was needed */
#define FLOW_REFUSED 3 /* there was no room, or no source port left */
#define FLOW_STATS   4

_Static_assert(sizeof(struct flow_tags) == 64, "flow_tags");
_Static_assert(sizeof(struct flow_entry) == 128, "flow_entry");
_Static_assert(__builtin_offsetof(struct flow_entry, line) == 48, "flow_entry's line");
_Static_assert(__builtin_offsetof(struct flow_entry, packets) == 64, "flow_entry's second line");
_Static_assert(sizeof(struct flow_table) == 16, "flow_table");
_Static_assert(FLOW_BANK_ENTRIES == FLOW_BANK_BUCKETS * FLOW_WAYS, "a bank's entries");

#endif
