/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The states of connections, how packets change them, and when a connection is over. */
#ifndef __FLOW_STATE_H__
#define __FLOW_STATE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/connection.h"
#include "maps.h"

/* Bits of the byte of flags in the TCP header; a datagram has none. */
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

static __always_inline void count_flow(__u32 key)
{
	__u64 *counted = bpf_map_lookup_elem(&flow_stats, &key);

	if (counted)
		(*counted)++;
}

/* CLOCK_MONOTONIC, in seconds. */
static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_ns() / 1000000000;
}

/* Much cheaper than the clock. A connection's clock is asked and written once in a tick. */
static __always_inline __u32 current_tick(void)
{
	return bpf_jiffies64() / 256;
}

#define FOUR(a, b, c, d) ((__u64)(a) | (__u64)(b) << 16 | (__u64)(c) << 32 | (__u64)(d) << 48)

/* For how many seconds a connection is kept. Computed: an array would need a map. */
static __always_inline __u32 timeout_of(__u32 state)
{
	__u64 four;

	if (state >= STATE_RESET)
		return TIMEOUT_RESET;
	four = state < 4
		       ? FOUR(TIMEOUT_ONE_WAY, TIMEOUT_BOTH_WAYS, TIMEOUT_OPENING, TIMEOUT_OPENING)
		       : FOUR(TIMEOUT_ESTABLISHED, TIMEOUT_ESTABLISHED, TIMEOUT_ESTABLISHED,
			      TIMEOUT_CLOSED);
	return four >> state % 4 * 16 & 0xffff;
}

/* Signed: another CPU may have written a time after now. */
static __always_inline bool is_over(__u32 state, __u32 seen, __u32 now)
{
	return (__s32)(now - seen) > (__s32)timeout_of(state);
}

/* Only time ends these. */
static __always_inline bool is_established(__u32 state)
{
	return state >= STATE_ESTABLISHED && state <= STATE_FIN_ANSWER;
}

/* Another connection gets its port before one is refused. */
static __always_inline bool gives_port_away(__u32 state, __u32 seen, __u32 now)
{
	return !is_established(state) && (__s32)(now - seen) >= PORT_KEPT;
}

static __always_inline bool is_ended(__u32 state)
{
	return state == STATE_CLOSED || state == STATE_RESET;
}

/* The states that a segment without SYN, FIN and RST, or a datagram, changes. */
#define PLAIN_REQUEST (1 << STATE_ANSWERED)
#define PLAIN_ANSWER  (1 << STATE_ONE_WAY | 1 << STATE_OPENING)

/* Whether the packet may change the state. */
static __always_inline bool may_change(__u32 state, __u32 way, __u32 flags)
{
	__u32 states = way == WAY_REQUEST ? PLAIN_REQUEST : PLAIN_ANSWER;

	return flags & (TCP_SYN | TCP_FIN | TCP_RST) || states >> (state & 31) & 1;
}

/*
 * A FIN of the client in a connection that is not known, or not answered yet: CLOSED, because it
 * would take two hours to forget it if its other end never came.
 *
 * Only an acknowledgement makes a connection established, which then makes no room for others. A
 * server resets one that acknowledges what it has not sent, but drops a segment without any in
 * silence: with two packets from a forged address, anybody could have such a connection.
 */
static __always_inline __u32 after_request(__u32 state, __u32 flags)
{
	if (flags & TCP_SYN)
		return state;
	if (state == STATE_ANSWERED && flags & TCP_ACK)
		state = STATE_ESTABLISHED;
	if (!(flags & TCP_FIN))
		return state;
	if (state == STATE_ESTABLISHED)
		return STATE_FIN_REQUEST;
	return state == STATE_OPENING || state == STATE_FIN_ANSWER ? STATE_CLOSED : state;
}

static __always_inline __u32 after_answer(__u32 state, __u32 flags)
{
	if (state == STATE_ONE_WAY)
		return STATE_BOTH_WAYS;
	if (flags & TCP_SYN)
		return state == STATE_OPENING ? STATE_ANSWERED : state;
	if (state == STATE_OPENING)
		state = STATE_ESTABLISHED;
	if (!(flags & TCP_FIN))
		return state;
	if (state == STATE_ESTABLISHED || state == STATE_ANSWERED)
		return STATE_FIN_ANSWER;
	return state == STATE_FIN_REQUEST ? STATE_CLOSED : state;
}

/* The state after a packet. */
static __always_inline __u32 next_state(__u32 state, __u32 way, __u32 flags)
{
	if (flags & TCP_RST)
		return STATE_RESET;
	return way == WAY_REQUEST ? after_request(state, flags) : after_answer(state, flags);
}

#endif
