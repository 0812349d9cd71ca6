/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The stages of a stand-in that captures: see stand_in.h. There are two of them, which differ in
 * `shows` of their constants:
 *
 *   The taker captures each frame that it meets. It keeps the bytes of a frame when it arrives, and
 *   tells them at the end, with what became of it.
 *
 *   The skipper stands in front of it where not all frames are wanted. It calls the taker for a
 *   frame that is, and does with all others what the interface's program does, as fast.
 */
#ifndef __CAPTURE_H__
#define __CAPTURE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/capture.h"
#include "abi/outcomes.h"
#ifdef HOOK_TC
#include "capture_tc.h"
#else
#include "captured.h"
#include "telling.h"
#endif
#include "hook.h"
#include "interface.h"
#include "parse.h"
#include "ledger.h"
#include "show.h"
#include "sightings.h"
#include "wanted.h"

const volatile struct capture capture SEC(".rodata.capture") = {};

/* A CPU's. */
struct view {
	__u64 missed;	    /* sightings that the ring buffer had no room for */
	__u32 taken_before; /* frames */
	__u32 skip;	    /* so many frames are not taken now */
	struct sighting sighting;
	__u8 bytes[MAX_SNAPLEN];
};

/*
 * Of all interfaces that are captured together. The command makes it as large as there may be CPUs:
 * a per-CPU map has no room for such values.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct view);
} views SEC(".maps");

/* The counters of the rules whose packets are wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_WANTED);
	__type(key, __u32);
	__type(value, __u32);
} wanted_counters SEC(".maps");

/* The skipper's taker. Never pinned, either: the kernel clears it like the slot in stand_in.h. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} taker SEC(".maps");

static __always_inline struct view *this_cpu_view(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&views, &cpu);
}

/* Puts the frame as it is now into the view, and how long it is. */
__noinline int look_at(struct hook_ctx *ctx)
{
	struct view *mine = this_cpu_view();
	__u32 len, captured, last, tci = 0;

	if (!mine) /* never; the verifier doesn't know */
		return 0;
	len = frame_size(ctx);
	captured = len < capture.snaplen ? len : capture.snaplen;
	if (captured > MAX_SNAPLEN)
		captured = MAX_SNAPLEN;
	/* Linux 6.1's verifier learns from no comparison with 0 that something is not 0. */
	last = captured - 1;
	barrier_var(last);
	if (last >= MAX_SNAPLEN || load_bytes(ctx, 0, mine->bytes, last + 1))
		captured = 0;
	mine->sighting.len = len;
	mine->sighting.captured = captured;
	mine->sighting.beside = tag_beside(ctx, &tci) ? TAG_BESIDE | (__u16)tci : 0;
	mine->sighting.tag_type = tag_type(ctx);
	return 0;
}

/* One frame of `sample` on average: how many are skipped is random, so that no pattern escapes. */
static __always_inline __u32 next_skip(void)
{
	return capture.sample > 1 ? bpf_get_prandom_u32() % (2 * capture.sample - 1) : 0;
}

/* Of a packet: no two have the same, at whichever interface, until they begin again. */
static __always_inline __u32 next_number(struct view *mine)
{
	__u32 number = mine->taken_before++ << 10 | (bpf_get_smp_processor_id() & 1023);

	return number & 0x7fffffff; /* UNATTRIBUTED stands for frames without one */
}

/* Whether the frame is to be captured. */
static __always_inline bool is_chosen(struct hook_ctx *ctx)
{
	struct view *mine;

	if (!wanted.is_any) {
		pull_headers(ctx, MAX_L4_OFFSET, MAX_L4_OFFSET + sizeof(struct tcphdr));
		if (!is_wanted(ctx))
			return false;
	}
	mine = this_cpu_view();
	if (!mine) /* never; the verifier doesn't know */
		return false;
	if (mine->skip) {
		mine->skip--;
		return false;
	}
	mine->skip = next_skip();
	return true;
}

/* Neither static nor inlined, so that the skipper needs no stack for it. */
__noinline int take_frame(struct hook_ctx *ctx)
{
	struct view *mine = this_cpu_view();
	struct shown *now = this_cpu_shown();

	if (!mine || !now) /* never; the verifier doesn't know */
		return 0;
	mine->sighting.number = next_number(mine);
	mine->sighting.time = bpf_ktime_get_ns();
	__builtin_memset(now, 0, sizeof(*now));
	look_at(ctx);
	return 0;
}

#ifndef HOOK_TC
/* Marks the frame that was just written into the ledger. Its caller needs no stack for this. */
__noinline int mark_captured(void)
{
	struct view *mine = this_cpu_view();
	struct ledger *ledger = this_cpu_ledger();
	struct captured *numbers = this_cpu_captured();
	struct telling *now = this_cpu_telling();
	__u32 last;

	if (!mine || !ledger || !numbers || !now) /* never; the verifier doesn't know */
		return 0;
	if (interface.mode == MODE_SKB) {
		now->generic_teller = capture.teller;
		ledger->generic_program |= CAPTURED;
		numbers->generic = mine->sighting.number;
		return 0;
	}
	now->teller = capture.teller;
	last = (ledger->appended - 1) % LEDGER_FRAMES;
	ledger->ring[last].ifindex |= CAPTURED;
	numbers->ring[last] = mine->sighting.number;
	return 0;
}

static __always_inline void note_redirect(void)
{
	if (interface.shows && capture.teller < TELLERS)
		mark_captured();
}
#endif

static __always_inline int step_in(struct hook_ctx *ctx)
{
	if (interface.shows)
		take_frame(ctx);
	else if (is_chosen(ctx))
		bpf_tail_call_static(ctx, &taker, 0);
	return GO_ON;
}

static __always_inline void tell(struct view *mine, __u32 stage)
{
	__u32 captured = mine->sighting.captured;

	mine->sighting.stage = stage;
	if (captured > MAX_SNAPLEN) /* never; the verifier doesn't know */
		return;
	if (!tell_command(&mine->sighting, captured))
		mine->missed++;
}

static __always_inline bool is_wanted_outcome(const struct shown *now, __u32 outcome)
{
	if (!(capture.outcomes >> (outcome & 63) & 1))
		return false;
	if (!capture.by_rule)
		return true;
	return now->decided && bpf_map_lookup_elem(&wanted_counters, &now->counter);
}

__noinline int tell_all(struct hook_ctx *ctx, __u32 outcome, __u32 leaves)
{
	struct view *mine = this_cpu_view();
	struct shown *now = this_cpu_shown();

	if (!mine || !now || !is_wanted_outcome(now, outcome))
		return 0;
	mine->sighting.ingress = interface.ifindex;
	mine->sighting.outcome = outcome;
	mine->sighting.decided = now->decided;
	mine->sighting.counter = now->counter;
	mine->sighting.ifindex = now->ifindex;
	mine->sighting.follows = leaves && capture.stages & (1 << STAGE_LEFT | 1 << STAGE_LOST);
	if (capture.stages & 1 << STAGE_ARRIVED)
		tell(mine, STAGE_ARRIVED);
	if (!mine->sighting.follows)
		return 0;
	mine->sighting.follows = 0;
	mine->sighting.time = bpf_ktime_get_ns();
	look_at(ctx);
	tell(mine, STAGE_LEFT);
#ifdef HOOK_TC
	if (capture.stages & 1 << STAGE_LOST && outcome != OUTCOME_ANSWER_PASSED)
		label_captured(ctx, mine->sighting.number);
#endif
	return 0;
}

/* What the program hands to the stack translated leaves, too. */
static __always_inline void look_back(struct hook_ctx *ctx, __u32 outcome, int verdict)
{
	if (interface.shows)
		tell_all(ctx, outcome,
			 verdict == HOOK_REDIRECT || verdict == HOOK_SEND_BACK ||
				 outcome == OUTCOME_ANSWER_PASSED);
}

#endif
