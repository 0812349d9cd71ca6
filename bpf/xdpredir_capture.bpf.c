// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A stand-in that captures. */
#define STAND_IN "capture.h"
#include "xdpredir.bpf.c"
