/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The frames of a capture that were redirected at the tc hook last, by the numbers of their labels.
 */
#ifndef __LABELLED_H__
#define __LABELLED_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/capture.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LABELLED);
	__type(key, __u32);
	__type(value, struct labelled);
} labelled SEC(".maps");

#endif
