/* See assignment.h. A least number does not depend on the order in which a loop comes to it, so these loops may have
   any number of lanes. */
#include "density/assignment.h"
#include <math.h>
#include <stdint.h>

enum { LANES = 16 };

double nfi_assignment_relax(size_t n, const double *cost, const double *v, double before, size_t i, const double *done,
                            double *distance, size_t *from)
{
    NFI_SIMD
    for (size_t j = 0; j < n; j++) {
        const double through = cost[j] - v[j] - before + done[j], was = distance[j];
        const bool shorter = through < was;
        distance[j] = shorter ? through : was;
        from[j] = shorter ? i : from[j];
    }
    double lane[LANES], least = INFINITY;
    size_t j = 0;
    for (size_t k = 0; k < LANES; k++)
        lane[k] = INFINITY;
    for (; j + LANES <= n; j += LANES) {
        NFI_SIMD
        for (size_t k = 0; k < LANES; k++) {
            const double d = distance[j + k] + done[j + k];
            lane[k] = d < lane[k] ? d : lane[k];
        }
    }
    for (size_t k = 0; j + k < n; k++)
        lane[k] = fmin(lane[k], distance[j + k] + done[j + k]);
    for (size_t k = 0; k < LANES; k++)
        least = fmin(least, lane[k]);
    return least;
}

size_t nfi_assignment_nearest(size_t n, const double *done, const double *distance, double least)
{
    int64_t first = (int64_t)n; /* registers compare signed numbers */
    NFI_PRAGMA(omp simd reduction(min : first))
    for (size_t j = 0; j < n; j++) {
        const int64_t here = distance[j] + done[j] <= least ? (int64_t)j : (int64_t)n;
        first = here < first ? here : first;
    }
    return (size_t)first;
}
