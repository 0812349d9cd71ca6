/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What depends on where the program runs. The stages know a frame as a struct hook_ctx, whose first
 * bytes lie between data and data_end, and do the rest by these, of which each hook has its own:
 *
 *   HOOK_SECTION, HOOK_PASS, HOOK_DROP, HOOK_REDIRECT, HOOK_SEND_BACK
 *   HOOK_KNOWS_PARTIAL	   whether the kernel's helpers tell partial checksums from complete ones
 *   frame_size		   in bytes, without a tag beside the frame
 *   segment_size	   of the segments that the frame holds; 0: it is one
 *   tag_beside		   whether the outer VLAN tag is not in the frame, and what it is
 *   tag_type		   its TPID
 *   pull_headers	   lays more bytes of the frame between data and data_end
 *   load_bytes, store_bytes, store_answer
 *   make_room, undo_room  in front of the frame
 *   adjust_tail
 *   prepare_redirect
 *   is_away		   whether indexes of devices mean others here
 *
 * What depends on it in the rewriting of packets is in rewrite_xdp.h and rewrite_tc.h.
 */
#ifndef __HOOK_H__
#define __HOOK_H__

#define GO_ON (-1000) /* no verdict of any hook: see stand_in.h */

#ifdef HOOK_TC
#include "hook_tc.h"
#else
#include "hook_xdp.h"
#endif

#endif
