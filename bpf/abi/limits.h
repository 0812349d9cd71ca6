/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The limits of the maps, and what follows from them. */
#ifndef __ABI_LIMITS_H__
#define __ABI_LIMITS_H__

/* Limits. Each is met with an error that names it, never in silence. */
#define MAX_RULES	  1048576 /* matches in one namespace */
#define MAX_BACKENDS	  1048576 /* of all rules */
#define MAX_SERVICES	  65536	  /* distinct IP version, protocol, port and VLAN among them */
#define MAX_BALANCED	  16384	  /* rules with more than one backend */
#define MAX_MEMBERS	  65536	  /* backends in sets */
#define MAX_EGRESS	  16384	  /* distinct egress devices */
#define MAX_LOCATORS	  65536	  /* backends that remember how they were found */
#define MAX_RULE_BACKENDS 255	  /* backends of one rule */

/*
 * An update writes a batch of new sets before it frees the old ones, and gives new
 * backends their counters and origins. The maps have room for that beyond the limits.
 */
#define BATCH_RULES    1024 /* the most in one batch */
#define BATCH_BACKENDS 4096 /* of those rules */

/* What the maps hold: the limits, and a batch. */
#define ROOM_MEMBERS  69632 /* MAX_MEMBERS + BATCH_BACKENDS */
#define ROOM_CHUNKS   69632 /* MAGLEV_CHUNKS * (MAX_BALANCED + BATCH_RULES) */
#define ROOM_LOCATORS 69632 /* MAX_LOCATORS + BATCH_BACKENDS */
#define COUNTER_BANKS 257   /* maps of counters, each made when the others are full */
#define BANK_COUNTERS 4096  /* of each CPU in one of them */

#define MAGLEV_SLOTS	   16127 /* prime, and the same for every rule: see balance.h */
#define MAGLEV_CHUNK	   4032	 /* slots in one value of the maglev map, 4 KB in the kernel */
#define MAGLEV_CHUNKS	   4	 /* values that one rule needs there */
#define BITMAP_BYTES	   512	 /* bytes: BANK_COUNTERS bits */
#define LOCATOR_LEN	   128	 /* bytes of text, with the final NUL */
#define LEDGER_FRAMES	   512	 /* more than the kernel takes in one poll, 64 by default */
#define MAX_FAILURES	   65536 /* backends and reasons */
#define FLOW_SETS	   4096	 /* of the flow cache of one CPU */
#define FLOW_WAYS	   2	 /* flows in a set */
#define MAX_FRAGMENTED	   8192	 /* fragmented datagrams remembered at a time */
#define MAX_PASSED	   8192	 /* of those that pass */
#define MAX_TAGS	   2	 /* VLAN tags: 802.1Q, 802.1ad */
#define MAX_EXTENSIONS	   8	 /* IPv6 extension headers before UDP or TCP */
#define MAX_L4_OFFSET	   1024	 /* bytes of headers before UDP or TCP */
#define INTERFACE_NAME_LEN 16	 /* IFNAMSIZ, with the final NUL */

_Static_assert(BANK_COUNTERS == BITMAP_BYTES * 8, "a bit for each counter of a bank");
_Static_assert(ROOM_MEMBERS == MAX_MEMBERS + BATCH_BACKENDS, "room for a batch of members");
_Static_assert(ROOM_CHUNKS == MAGLEV_CHUNKS * (MAX_BALANCED + BATCH_RULES),
	       "room for a batch of tables");
_Static_assert(ROOM_LOCATORS == MAX_LOCATORS + BATCH_BACKENDS, "room for a batch of origins");
_Static_assert(MAX_BACKENDS + BATCH_BACKENDS == BANK_COUNTERS * COUNTER_BANKS,
	       "room for a batch of counters");
_Static_assert(MAX_RULE_BACKENDS <= BATCH_BACKENDS, "any rule fits a batch");
_Static_assert(MAGLEV_SLOTS <= MAGLEV_CHUNK * MAGLEV_CHUNKS, "a maglev table fits its chunks");

#endif
