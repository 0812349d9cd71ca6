/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What makes the ledger's tracing programs tellers of a capture: see tellers.h. */
#ifndef __TELLER_H__
#define __TELLER_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "captured.h"
#include "lost.h"

#define call_teller(ctx, tellers, is_generic) /* it is one */

/* Generic mode: of the last frame. */
static __always_inline void tell_of_last(__u16 reason, __u16 error)
{
	struct captured *mine = this_cpu_captured();

	if (mine)
		tell_lost(mine->generic, reason, error);
}

/* Of the frame at a position in the ring. */
static __always_inline void tell_of(__u32 position, __u16 reason, __u16 error)
{
	struct captured *mine = this_cpu_captured();

	if (mine)
		tell_lost(mine->ring[position % LEDGER_FRAMES], reason, error);
}

#endif
