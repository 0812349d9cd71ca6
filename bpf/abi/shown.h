/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a program has decided for a packet, if it `shows` that. */
#ifndef __ABI_SHOWN_H__
#define __ABI_SHOWN_H__

#include "vmlinux.h"

struct shown {
	__u32 decided;	   /* 1: there is an action, and what follows is set */
	__u32 counter;	   /* of the backend, or of the rule without one; UNATTRIBUTED: neither */
	__u32 ifindex;	   /* egress device; 0: none */
	__u32 maglev_slot; /* plus 1; 0: no table was asked */
	__be16 sport;	   /* the new source port; 0: unchanged */
	__u16 known;	   /* 1: the packet belongs to a connection that stood before */
};

_Static_assert(sizeof(struct shown) == 20, "shown");

#endif
