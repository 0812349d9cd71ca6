/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What an outcome means: by whom a packet was taken, and what the kernel is to do with it. */
#ifndef __OUTCOME_H__
#define __OUTCOME_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/outcomes.h"
#include "hook.h"
#include "interface.h"

/*
 * Sets of outcomes have a bit for each. What is no outcome has a number above theirs, and is below
 * 64. Nothing is compared, because each comparison would double the paths that the verifier walks.
 */
static __always_inline bool is_one_of(__u64 outcomes, __u32 outcome)
{
	return outcomes >> outcome & 1;
}

/*
 * The outcomes that mean that no rule matched. What a rule matched and cannot be sent is not the
 * policy's.
 */
#define UNMATCHED                                                                                  \
	(1ull << OUTCOME_NO_RULE | 1ull << OUTCOME_NOT_IP | 1ull << OUTCOME_NOT_UDP_TCP |          \
	 1ull << OUTCOME_TRUNCATED | 1ull << OUTCOME_MALFORMED | 1ull << OUTCOME_TAGS |            \
	 1ull << OUTCOME_EXTENSION_HEADERS | 1ull << OUTCOME_FRAGMENT |                            \
	 1ull << OUTCOME_NOT_UNICAST)

static __always_inline bool is_unmatched(__u32 outcome)
{
	return is_one_of(UNMATCHED, outcome);
}

#define SENT (1ull << OUTCOME_REDIRECTED | 1ull << OUTCOME_FORWARDED | 1ull << OUTCOME_ANSWERED)
#define BY_RULE                                                                                    \
	(SENT | 1ull << OUTCOME_PASSED_BY_RULE | 1ull << OUTCOME_DROPPED_BY_RULE |                 \
	 1ull << OUTCOME_ANSWER_PASSED | 1ull << OUTCOME_TO_SOCKET | 1ull << OUTCOME_NO_READER)

/* The packet counts for its rule, and the later fragments of a datagram follow the first one. */
static __always_inline bool is_by_rule(__u32 outcome)
{
	return is_one_of(BY_RULE, outcome);
}

#define GOES (SENT | 1ull << OUTCOME_POLICY_FORWARD | 1ull << OUTCOME_TO_SOCKET)
#define GOES_BACK                                                                                  \
	(1ull << OUTCOME_TOO_BIG_SENT | 1ull << OUTCOME_ANNOUNCED | 1ull << OUTCOME_ECHO_ANSWERED)
#define DROPPED                                                                                    \
	(1ull << OUTCOME_NO_HEADROOM | 1ull << OUTCOME_DROPPED_BY_RULE |                           \
	 1ull << OUTCOME_NO_CONNECTION | 1ull << OUTCOME_NO_SOURCE_PORT |                          \
	 1ull << OUTCOME_TOO_LONG_DROPPED | 1ull << OUTCOME_POLICY_DROP |                          \
	 1ull << OUTCOME_POLICY_NO_DEVICE | 1ull << OUTCOME_POLICY_TOO_LONG)

/* A packet that passes has not one byte changed. One that is changed and cannot be sent is dropped.
 */
static __always_inline int verdict(__u32 outcome)
{
	if (is_one_of(GOES, outcome))
		return HOOK_REDIRECT;
	if (is_one_of(GOES_BACK, outcome))
		return interface.answers == ANSWERS_REDIRECTED ? HOOK_REDIRECT : HOOK_SEND_BACK;
	return is_one_of(DROPPED, outcome) ? HOOK_DROP : HOOK_PASS;
}

#endif
