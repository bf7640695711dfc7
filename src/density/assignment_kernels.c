/* See assignment.h. A least number does not depend on the order in which a loop comes to it, so these loops may have as
   many lanes as a register. */
#include "density/assignment.h"
#include <math.h>

double nfi_assignment_relax(size_t n, const double *cost, const double *v, double before, size_t i, const double *done,
                            double *distance, size_t *from)
{
    double least = INFINITY;
    NFI_PRAGMA(omp simd reduction(min : least))
    for (size_t j = 0; j < n; j++) {
        const double through = cost[j] - v[j] - before + done[j], was = distance[j];
        const bool shorter = through < was;
        const double now = shorter ? through : was;
        distance[j] = now;
        from[j] = shorter ? i : from[j];
        least = now + done[j] < least ? now + done[j] : least;
    }
    return least;
}

size_t nfi_assignment_nearest(size_t n, const double *done, const double *distance, double least)
{
    size_t first = n;
    NFI_PRAGMA(omp simd reduction(min : first))
    for (size_t j = 0; j < n; j++) {
        const size_t here = distance[j] + done[j] <= least ? j : n;
        first = here < first ? here : first;
    }
    return first;
}
