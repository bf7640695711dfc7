/* Gradients of parameters that a tile's samples share, summed lane by lane first: kernels then add to a parameter's row
   in the same way whether it has a column for each sample or NFI_SUMS columns, which are added up at the end. */
#ifndef NFI_LANE_SUMS_H
#define NFI_LANE_SUMS_H
#include "flows/param.h"

/* Where in such a row the samples from s on are added. */
NFI_INLINE size_t nfi_lane_at(size_t stride, size_t s)
{
    return stride ? s : s % NFI_SUMS;
}

/* Columns of such a row. */
NFI_INLINE size_t nfi_lane_columns(size_t stride, size_t ld)
{
    return stride ? ld : NFI_SUMS;
}

/* Where kernels add: g_theta itself where it is per sample, else [n x NFI_SUMS] of zeros on the scratch arena; NULL
   when out of memory. */
static inline nf_real *nfi_lane_sums(const nf_pass *p, size_t n, nf_real *g_theta)
{
    if (p->theta_stride)
        return g_theta;
    nf_real *sums = nf_arena_reals(p->scratch, n, NFI_SUMS);
    for (size_t i = 0; sums && i < n * NFI_SUMS; i++)
        sums[i] = 0;
    return sums;
}

static inline void nfi_add_lane_sums(const nf_pass *p, size_t n, const nf_real *sums, nf_real *g_theta)
{
    for (size_t i = 0; !p->theta_stride && i < n; i++)
        g_theta[i] += nfi_row_sum(NFI_SUMS, sums + i * NFI_SUMS);
}

#endif
