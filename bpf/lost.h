/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tells a capture which frames were lost, and why. */
#ifndef __LOST_H__
#define __LOST_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/capture.h"
#include "abi/ledger.h"
#include "sightings.h"

__u64 missed = 0; /* lost frames that there was no room to tell of */

static __always_inline void tell_lost(__u32 number, __u16 reason, __u16 error)
{
	struct sighting sighting = {
		.time = bpf_ktime_get_ns(),
		.number = number,
		.stage = STAGE_LOST,
		.outcome = reason,
		.error = error,
	};

	if (!tell_command(&sighting, 0))
		__sync_fetch_and_add(&missed, 1);
}

#endif
