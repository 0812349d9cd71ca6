// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A stand-in that captures, at the tc hook. */
#define HOOK_TC
#define STAND_IN "capture.h"
#include "xdpredir.bpf.c"
