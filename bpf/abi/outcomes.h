/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The outcomes: one for each way out of the program. Every packet is counted under exactly one, by
 * interface and CPU.
 */
#ifndef __ABI_OUTCOMES_H__
#define __ABI_OUTCOMES_H__

#define OUTCOME_REDIRECTED	  0
#define OUTCOME_NO_RULE		  1
#define OUTCOME_NOT_IP		  2
#define OUTCOME_NOT_UDP_TCP	  3  /* no rule takes it, and it has no ports */
#define OUTCOME_TRUNCATED	  4  /* shorter than its headers say */
#define OUTCOME_MALFORMED	  5  /* headers that contradict each other */
#define OUTCOME_TAGS		  6  /* more than MAX_TAGS VLAN tags */
#define OUTCOME_EXTENSION_HEADERS 7  /* too many, too long, or on the way to a further router */
#define OUTCOME_FRAGMENT	  8  /* a later fragment whose first one was not redirected */
#define OUTCOME_TTL		  9  /* the rule decrements it, and it is at its end */
#define OUTCOME_NO_DEVICE	  10 /* gone, or where a forwarded frame came from */
#define OUTCOME_TOO_LONG	  11 /* for the MTU of the backend's egress device */
#define OUTCOME_NO_HEADROOM	  12 /* for the VLAN tag; the packet is dropped */
#define OUTCOME_LATE_FIRST	  13 /* a first fragment after later ones that have passed */
#define OUTCOME_NOT_UNICAST	  14 /* left alone: broadcast, multicast, link-local */
#define OUTCOME_POLICY_DROP	  15 /* these four: no rule matched, and the policy decides */
#define OUTCOME_POLICY_FORWARD	  16
#define OUTCOME_POLICY_NO_DEVICE  17 /* gone, or where the frame came from; it is dropped */
#define OUTCOME_POLICY_TOO_LONG	  18 /* for the MTU of the policy's device; it is dropped */
#define OUTCOME_FORWARDED	  19 /* by a rule, out of a device, as it is */
#define OUTCOME_PASSED_BY_RULE	  20
#define OUTCOME_DROPPED_BY_RULE	  21
#define OUTCOME_TOO_BIG_SENT	  22 /* an ICMP error was sent in place of the packet */
#define OUTCOME_TOO_LONG_DROPPED  23
#define OUTCOME_ANSWERED	  24 /* an answer, translated and sent to the client */
#define OUTCOME_ANSWER_PASSED	  25 /* an answer, translated and handed to the stack */
#define OUTCOME_NO_CONNECTION	  26 /* it cannot be remembered; the packet is dropped */
#define OUTCOME_ANNOUNCED	  27 /* a question for an announced address was answered */
#define OUTCOME_ECHO_ANSWERED	  28 /* an echo request to one was */
#define OUTCOME_NO_SOURCE_PORT	  29 /* none is free for its connection; the packet is dropped */
#define OUTCOME_TO_SOCKET	  30 /* by a rule, and read there */
#define OUTCOME_NO_READER	  31 /* by a rule, and nobody reads; the packet passes */
#define OUTCOMES		  32
#define OUTCOMES_ROOM		  64 /* of the map, so that more of them need no other one */

#endif
