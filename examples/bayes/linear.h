/*
 * The likelihood of linear regression, y ~ N(X beta, sigma^2 I) with X [n x p], from sufficient statistics. With a
 * least-squares solution b and its residual sum of squares R,
 *
 *     |y - X beta|^2 = R + (beta - b)^T X^T X (beta - b),
 *
 * so a gradient costs p^2 operations and not n p. (Around b nothing cancels, which it does in y^T y - 2 beta^T X^T y +
 * ...; X may have dependent columns.)
 */
#ifndef EXAMPLES_BAYES_LINEAR_H
#define EXAMPLES_BAYES_LINEAR_H
#include <stdbool.h>
#include <stddef.h>

enum { LINEAR_MOST = 25 };

typedef struct linear {
    size_t n, p;
    double residual;                         /* R */
    double best[LINEAR_MOST];                /* b */
    double cross[LINEAR_MOST * LINEAR_MOST]; /* X^T X, [p x p] */
} linear;

/* A linear model in memory of its own, to be released by free(), of X [n x p] and y [n]. NULL after nf_error(): no
   memory, p above LINEAR_MOST. X or y NULL: NULL, and the error stays what it was. */
linear *linear_new(size_t n, size_t p, const double *X, const double *y);
/* The same of p columns, each [n]. A column NULL is one of ones. */
linear *linear_of_columns(size_t n, size_t p, const double *const *column, const double *y);
/* The log likelihood. Adds to g_beta [p] and *g_sigma. */
double linear_log_p(const linear *l, const double *beta, double sigma, double *g_beta, double *g_sigma);
/* ln of the likelihood's integral over beta ~ N(0, sd^2 I), that is ln N(y; 0, sigma^2 I + sd^2 X X^T). sd INFINITY:
   its integral over beta, whose prior is flat. */
double linear_log_evidence(const linear *l, double sigma, double sd);
/* The same, integrated over sigma > 0 as well, with a prior of priors.h with this scale; NULL: flat. */
double linear_log_z(const linear *l, double sd, double (*log_prior)(double sigma, double scale, double *g),
                    double scale);
/* log_p and log_z of a model whose beta and sigma > 0 have flat priors: x is (beta, sigma), the data are a linear. */
double linear_flat_log_p(const void *data, const double *x, double *g);
double linear_flat_log_z(const void *data);

#endif
