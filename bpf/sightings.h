/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a capture tells the command. */
#ifndef __SIGHTINGS_H__
#define __SIGHTINGS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/capture.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CAPTURE_ROOM);
} sightings SEC(".maps");

#define MUCH	   (CAPTURE_ROOM / 4)
#define LOOK_AGAIN 1000000 /* ns */

/* When somebody looked how full the buffer is. CPUs that look at the same time do no harm. */
__u64 looked_at = 0;

/*
 * The command reads many times a second by itself. To wake it costs this CPU several microseconds,
 * so that is done only where the buffer fills up before.
 */
static __always_inline __u64 wake_if_full(__u64 now)
{
	if (now - looked_at < LOOK_AGAIN)
		return BPF_RB_NO_WAKEUP;
	looked_at = now;
	return bpf_ringbuf_query(&sightings, BPF_RB_AVAIL_DATA) < MUCH ? BPF_RB_NO_WAKEUP
								       : BPF_RB_FORCE_WAKEUP;
}

/* Tells of a frame, whose bytes follow. False where there is no room. */
static __always_inline bool tell_command(struct sighting *sighting, __u32 bytes)
{
	return !bpf_ringbuf_output(&sightings, sighting, sizeof(*sighting) + bytes,
				   wake_if_full(sighting->time));
}

#endif
