// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The ledger's tracing programs once more, as tellers of a capture. */
#define TELLER
#include "ledger.bpf.c"
