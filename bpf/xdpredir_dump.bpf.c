// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The program with stages that take frames: for an interface that has the program already. */
#define STAND_IN "dump_stages.h"
#include "xdpredir.bpf.c"
