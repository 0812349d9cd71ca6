/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The limits that the command checks, and the sizes of the maps that follow from them. The command
 * ends with an error that names the limit; nothing is left out silently.
 */
#ifndef __ABI_LIMITS_H__
#define __ABI_LIMITS_H__

#define MAX_RULES	  1048576 /* in one network namespace */
#define MAX_BACKENDS	  1048576 /* of all rules */
#define MAX_SERVICES	  65536	  /* distinct IP version, protocol, port and VLAN among them */
#define MAX_BALANCED	  16384	  /* rules with more than one backend */
#define MAX_MEMBERS	  65536	  /* backends in sets */
#define MAX_EGRESS	  16384	  /* distinct egress devices */
#define MAX_LOCATORS	  65536	  /* backends with a locator */
#define MAX_RULE_BACKENDS 255	  /* backends of one rule */

/*
 * An update writes new sets, counters and locators before it frees the old ones, so that packets
 * find either. It does so in batches, and each map has room for one batch beyond its limit.
 */
#define BATCH_RULES    1024  /* rules in one batch */
#define BATCH_BACKENDS 4096  /* backends of those rules */
#define ROOM_MEMBERS   69632 /* MAX_MEMBERS + BATCH_BACKENDS */
#define ROOM_CHUNKS    69632 /* MAGLEV_CHUNKS * (MAX_BALANCED + BATCH_RULES) */
#define ROOM_LOCATORS  69632 /* MAX_LOCATORS + BATCH_BACKENDS */

#define MAGLEV_SLOTS  16127 /* a prime number, the same for every rule: see balance.h */
#define MAGLEV_CHUNK  4032  /* slots in one value of the maglev map, which takes 4 KB */
#define MAGLEV_CHUNKS 4	    /* values that one rule needs there */

#define COUNTER_BANKS 257  /* maps of counters; the command makes one when the others are full */
#define BANK_COUNTERS 4096 /* counters of one CPU in one bank */
#define BITMAP_BYTES  512  /* one bit for each of them */

_Static_assert(BANK_COUNTERS == BITMAP_BYTES * 8, "one bit for each counter of a bank");
_Static_assert(ROOM_MEMBERS == MAX_MEMBERS + BATCH_BACKENDS, "room for a batch of members");
_Static_assert(ROOM_CHUNKS == MAGLEV_CHUNKS * (MAX_BALANCED + BATCH_RULES),
	       "room for a batch of Maglev tables");
_Static_assert(ROOM_LOCATORS == MAX_LOCATORS + BATCH_BACKENDS, "room for a batch of locators");
_Static_assert(MAX_BACKENDS + BATCH_BACKENDS == BANK_COUNTERS * COUNTER_BANKS,
	       "room for a batch of counters");
_Static_assert(MAX_RULE_BACKENDS <= BATCH_BACKENDS, "any rule fits into a batch");
_Static_assert(MAGLEV_SLOTS <= MAGLEV_CHUNK * MAGLEV_CHUNKS, "a Maglev table fits its chunks");

#endif
