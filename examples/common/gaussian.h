/* The normal distribution with the mean and the covariance of some rows: what a flow has to be better than. */
#ifndef EXAMPLES_GAUSSIAN_H
#define EXAMPLES_GAUSSIAN_H
#include <stddef.h>

typedef struct gaussian {
    size_t dim;
    double *mean; /* [dim] */
    double *root; /* [dim x dim], the lower triangle L of the covariance L L^T */
} gaussian;

/* Of n rows x [n x dim]. Exits 1 with one line, in which `what` names the rows, if the covariance is singular. To be
   released by gaussian_free(). */
gaussian gaussian_fit(const char *what, size_t n, size_t dim, const double *x);
/* log N(features `given` and later | features before `given`) at a row x [dim]. With given = dim - 1 this is the linear
   regression of the last feature on all others, with normal errors. */
double gaussian_log_p(const gaussian *g, size_t given, const double *x);
void gaussian_free(gaussian *g);

#endif
