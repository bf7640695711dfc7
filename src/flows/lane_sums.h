/* For gradients in parameters, which are shared by a tile's samples or given for each sample. If they are shared, a
   kernel first sums in NFI_SUMS lanes, which are added up at the end. So kernels add to the row of a parameter in the
   same way in both cases: the row has a column for each sample, or NFI_SUMS columns. */
#ifndef NFI_LANE_SUMS_H
#define NFI_LANE_SUMS_H
#include "flows/param.h"

/* The column of such a row to which the samples from s on are added. */
NFI_INLINE size_t nfi_lane_at(size_t stride, size_t s)
{
    return stride ? s : s % NFI_SUMS;
}

/* The number of columns of such a row. */
NFI_INLINE size_t nfi_lane_columns(size_t stride, size_t ld)
{
    return stride ? ld : NFI_SUMS;
}

/* Where kernels add: g_theta itself if it is per sample, else [n x NFI_SUMS] of zeros on the scratch arena. NULL if
   there is no memory. */
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
