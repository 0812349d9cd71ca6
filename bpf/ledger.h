/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* record_redirect: what the program tells the ledger of each frame that it redirects. */
#ifndef __LEDGER_H__
#define __LEDGER_H__

#ifdef HOOK_TC
#include "ledger_tc.h"
#else
#include "ledger_xdp.h"
#endif

#endif
