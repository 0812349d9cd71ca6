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

#endif
