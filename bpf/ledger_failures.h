/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counts lost frames by backend, reason and error: what the ledger's tracing programs share. */
#ifndef __LEDGER_FAILURES_H__
#define __LEDGER_FAILURES_H__

#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "ledger_maps.h"

/* False where the map is full. */
static __always_inline bool add_failures(const struct failure_key *key, __u64 lost)
{
	__u64 *frames = bpf_map_lookup_elem(&failures, key);

	if (!frames && bpf_map_update_elem(&failures, key, &lost, BPF_NOEXIST) == 0)
		return true;
	if (!frames) /* the map is full, or another CPU was faster */
		frames = bpf_map_lookup_elem(&failures, key);
	if (!frames)
		return false;
	__sync_fetch_and_add(frames, lost);
	return true;
}

/*
 * Where the map is full, the frames are no backend's. The command has made room for those, by
 * reason alone.
 */
static __always_inline void record_failures(__u32 counter, __u16 reason, __u16 error, __u64 lost)
{
	struct failure_key key = {.counter = counter, .reason = reason, .error = error};

	if (add_failures(&key, lost))
		return;
	key.counter = UNATTRIBUTED;
	key.reason &= ~BY_DROP_REASON;
	key.error = 0;
	add_failures(&key, lost);
}

#endif
