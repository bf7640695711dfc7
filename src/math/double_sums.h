/* Sums over samples in double, also in the float build: eight partial sums, sample i in lane i % NFI_DOUBLE_SUMS, which
   are the same for every instruction set. */
#ifndef NFI_DOUBLE_SUMS_H
#define NFI_DOUBLE_SUMS_H
#include "base/kernel.h"

enum { NFI_DOUBLE_SUMS = 8 };

NFI_INLINE double nfi_double_sum(const double lanes[NFI_DOUBLE_SUMS])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

#endif
