// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The same program at the tc hook: what differs is in hook_tc.h and rewrite_tc.h. */
#define HOOK_TC
#include "xdpredir.bpf.c"
