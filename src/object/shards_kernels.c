/* Sums of the parts of a gradient, by the tree of shards.h. */
#include "object/shards.h"

void nfi_add_parts(size_t n_parts, nf_real *const *part, size_t first, size_t last)
{
    nf_real *const a = part[0];
    if (n_parts == 2) {
        const nf_real *const b = part[1];
        NFI_SIMD
        for (size_t i = first; i < last; i++)
            a[i] += b[i];
    } else if (n_parts == 4) {
        const nf_real *const b = part[1], *const c = part[2], *const d = part[3];
        NFI_SIMD
        for (size_t i = first; i < last; i++)
            a[i] = (a[i] + b[i]) + (c[i] + d[i]);
    } else if (n_parts == 8) {
        const nf_real *const b = part[1], *const c = part[2], *const d = part[3];
        const nf_real *const e = part[4], *const f = part[5], *const g = part[6], *const h = part[7];
        NFI_SIMD
        for (size_t i = first; i < last; i++)
            a[i] = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
    }
}
