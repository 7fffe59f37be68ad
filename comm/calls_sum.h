/* calls_sum.h - what of the sum over the digests of calls is 0 while all ranks make the same (comm/session.h); on the device,
 * too. */
#ifndef GD_COMM_CALLS_SUM_H
#define GD_COMM_CALLS_SUM_H

#include <stdint.h>

#define GD_CALLS_SUM_MASK ((INT64_C(1) << 40) - 1)

#endif
