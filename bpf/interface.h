/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __INTERFACE_H__
#define __INTERFACE_H__

#include "vmlinux.h"

#include "abi/interface.h"

/*
 * The interface's constants. Each interface loads its own copy of the program, so the verifier
 * knows their values and removes the branches of the other modes.
 */
const volatile struct interface interface = {};

#endif
