// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The ledger's tracing programs once more, for a capture: they tell which of its frames were lost.
 * Where the ledger has the counters of backends, theirs has the numbers of packets.
 */
#define RECORD_FAILURES "lost.h"
#define ledgers		captured /* the map: the ledger of the stand-ins has this name */
#include "ledger.bpf.c"
