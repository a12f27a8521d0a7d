/* The whole of it, for `pnl/ledger_kernel.pyx`. */
#ifndef EOD_LEDGER_H
#define EOD_LEDGER_H

#include "load.h"
#include "prices.h"
#include "render.h"

#endif
