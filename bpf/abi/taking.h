/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a program and the command tell each other while frames are taken: see take.h. */
#ifndef __ABI_TAKING_H__
#define __ABI_TAKING_H__

#include "vmlinux.h"

struct taking {
	__u64 longest;	/* the longest frame that the sockets take, in bytes */
	__u64 too_long; /* how many wanted frames were longer */
};

_Static_assert(sizeof(struct taking) == 16, "taking");

#endif
