/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A stand-in's stages that take wanted frames, before rules are asked: see stand_in.h. */
#ifndef __DUMP_STAGES_H__
#define __DUMP_STAGES_H__

#include "take.h"

static __always_inline int step_in(struct hook_ctx *ctx)
{
	return take_frame(ctx) ? HOOK_REDIRECT : GO_ON;
}

static __always_inline void note_redirect(void)
{
}

static __always_inline void look_back(struct hook_ctx *ctx, __u32 outcome, int verdict)
{
}

#endif
