/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Writes down what is decided, in a program that no packet meets and that somebody only asks: see
 * `shows` in abi/interface.h. The verifier removes it from all others.
 */
#ifndef __SHOW_H__
#define __SHOW_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/shown.h"
#include "interface.h"

struct shown shown = {};

/* The slot of a Maglev table that the packet's hash says. */
static __always_inline void show_slot(__u32 slot)
{
	if (interface.shows)
		shown.maglev_slot = slot + 1;
}

#endif
