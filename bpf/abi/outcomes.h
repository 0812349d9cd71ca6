/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __ABI_OUTCOMES_H__
#define __ABI_OUTCOMES_H__

/* The outcomes: one for each way out of the program, counted by interface and CPU. */
#define OUTCOME_REDIRECTED	  0
#define OUTCOME_NO_RULE		  1
#define OUTCOME_NOT_IP		  2
#define OUTCOME_NOT_UDP_TCP	  3
#define OUTCOME_TRUNCATED	  4  /* shorter than its headers say */
#define OUTCOME_MALFORMED	  5  /* headers that contradict themselves */
#define OUTCOME_TAGS		  6  /* more than MAX_TAGS */
#define OUTCOME_EXTENSION_HEADERS 7  /* beyond the bounds, or on the way to a further router */
#define OUTCOME_FRAGMENT	  8  /* a later one, whose first one was not redirected */
#define OUTCOME_TTL		  9  /* at its end, and the rule decrements it */
#define OUTCOME_NO_DEVICE	  10 /* of any backend of the rule */
#define OUTCOME_TOO_LONG	  11 /* for the MTU of the backend's device */
#define OUTCOME_NO_HEADROOM	  12 /* for the VLAN tag; the only one that drops */
#define OUTCOME_LATE_FIRST	  13 /* a first fragment of a rule, after others that passed */
#define OUTCOMES		  14

#endif
