/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The limits that the command checks, and the sizes of the maps that follow from them. The command
 * ends with an error that names the limit; nothing is left out silently.
 */
#ifndef __ABI_LIMITS_H__
#define __ABI_LIMITS_H__

#define MAX_RULES	  1048576 /* in one network namespace */
#define MAX_BACKENDS	  1048576 /* of all rules; a rule without backends counts as one */
#define MAX_PROBES	  262144  /* distinct matches, addresses, VLANs and interfaces apart */
#define MAX_PORT_PROBES	  256	  /* of them for one IP version, protocol and port */
#define MAX_BALANCED	  16384	  /* rules with more than one backend */
#define MAX_MEMBERS	  65536	  /* backends in rules with more than one */
#define MAX_EGRESS	  16384	  /* distinct egress devices */
#define MAX_LOCATORS	  65536	  /* backends with a locator */
#define MAX_RULE_BACKENDS 255	  /* backends of one rule */

/* An update writes new locators and counters before it frees the old ones. */
#define BATCH_BACKENDS 4096  /* backends of a batch */
#define ROOM_LOCATORS  69632 /* MAX_LOCATORS + BATCH_BACKENDS */

#define BANK_LINES 4096 /* lines in a bank */
#define LINE_BANKS 4096 /* banks; the command makes one when the others are full */
#define LINE_BYTES 64

#define MAGLEV_SLOTS 16127 /* a prime number, the same for every rule: see balance.h */
#define MAGLEV_LINES 252   /* of a table */

#define COUNTER_BANKS 257  /* maps of counters; the command makes one when the others are full */
#define BANK_COUNTERS 4096 /* counters of one CPU in one bank */
#define BITMAP_BYTES  512  /* one bit for each of them */

_Static_assert(BANK_COUNTERS == BITMAP_BYTES * 8, "one bit for each counter of a bank");
_Static_assert(ROOM_LOCATORS == MAX_LOCATORS + BATCH_BACKENDS, "room for a batch of locators");
_Static_assert(MAX_BACKENDS + BATCH_BACKENDS == BANK_COUNTERS * COUNTER_BANKS,
	       "room for a batch of counters");
_Static_assert(MAX_RULE_BACKENDS <= BATCH_BACKENDS, "any rule fits into a batch");
_Static_assert(MAGLEV_LINES *LINE_BYTES >= MAGLEV_SLOTS, "a Maglev table fits its lines");
_Static_assert(BITMAP_BYTES * 8 == BANK_LINES, "one bit for each line of a bank");

#endif
