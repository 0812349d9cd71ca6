/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The limits that the command checks, and the sizes of the maps that follow from them. The command
 * ends with an error that names the limit; nothing is left out silently.
 */
#ifndef __ABI_LIMITS_H__
#define __ABI_LIMITS_H__

#define MAX_RULES	  1048576 /* in one network namespace */
#define MAX_BACKENDS	  1048576 /* of all rules; a rule without backends counts as one */
#define MAX_PROBES	  131072  /* distinct matches, addresses, VLANs and interfaces apart */
#define MAX_PORT_PROBES	  256	  /* of them for one IP version, protocol and port */
#define MAX_BALANCED	  16384	  /* rules with more than one backend */
#define MAX_MEMBERS	  65536	  /* backends in rules with more than one */
#define MAX_EGRESS	  16384	  /* distinct egress devices */
#define MAX_LOCATORS	  65536	  /* backends with a locator */
#define PAIRED_ENTRIES	  4096	  /* devices that the map `paired` tells apart */
#define MAX_RULE_BACKENDS 255	  /* backends of one rule */
#define MAX_SOCKETS	  1024	  /* queues of an interface that sockets can read from */

/* Two rule sets have room: the live one, and the next, which may have nothing of it. */
#define ROOM_LOCATORS 131072
#define ROOM_PROBES   262144

#define BANK_LINES 4096 /* lines in a bank */
#define LINE_BANKS 4096 /* banks; the command makes one when the others are full */
#define LINE_BYTES 64

#define HISTORY_REVISIONS 1000	/* the most that are kept */
#define HISTORY_CHUNK	  1952	/* bytes: with what the kernel adds, less than 2,048 */
#define HISTORY_CHUNKS	  65536 /* of all revisions */
#define HISTORY_KEPT	  32768 /* of all revisions, where there is more than one */

#define MAGLEV_SLOTS 16127 /* a prime number, the same for every rule: see balance.h */
#define MAGLEV_LINES 252   /* of a table */

#define COUNTER_BANKS 512  /* maps of counters; the command makes one when the others are full */
#define BANK_COUNTERS 4096 /* counters of one CPU in one bank */
#define BITMAP_BYTES  512  /* one bit for each of them */

_Static_assert(BANK_COUNTERS == BITMAP_BYTES * 8, "one bit for each counter of a bank");
_Static_assert(ROOM_LOCATORS == 2 * MAX_LOCATORS, "room for two rule sets");
_Static_assert(ROOM_PROBES == 2 * MAX_PROBES, "room for two rule sets");
_Static_assert(BANK_COUNTERS *COUNTER_BANKS == 2 * MAX_BACKENDS, "room for two rule sets");
_Static_assert(MAGLEV_LINES *LINE_BYTES >= MAGLEV_SLOTS, "a Maglev table fits its lines");
_Static_assert(BITMAP_BYTES * 8 == BANK_LINES, "one bit for each line of a bank");

#endif
