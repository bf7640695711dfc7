/* A mean over rows and its standard error. */
#ifndef TOOLS_ESTIMATE_H
#define TOOLS_ESTIMATE_H
#include <stddef.h>

typedef struct estimate {
    double mean, se;
} estimate;

/* Of n numbers. */
estimate mean_of(size_t n, const double *x);
/* Of n numbers with weights w [n], not all 0; w NULL: without weights. */
estimate weighted_mean_of(size_t n, const double *x, const double *w);

#endif
