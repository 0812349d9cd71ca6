/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __ABI_COUNTERS_H__
#define __ABI_COUNTERS_H__

#include "vmlinux.h"

#include "abi/limits.h"

/* Totals. Bytes are those of the Ethernet frame as XDP sees it on arrival. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* Which counters or lines of a bank are taken. For the command; the program does not read it. */
struct bitmap {
	__u8 bitmap[BITMAP_BYTES];
};

_Static_assert(sizeof(struct counter) == 16, "counter");
_Static_assert(sizeof(struct bitmap) == BITMAP_BYTES, "bitmap");

#endif
