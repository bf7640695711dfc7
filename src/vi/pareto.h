/* The generalised Pareto distribution of what lies above a threshold: P(X > x) = (1 + k x / sigma)^(-1/k), x > 0. */
#ifndef NFI_PARETO_H
#define NFI_PARETO_H
#include <nflow/base.h>

typedef struct nfi_pareto {
    double k;     /* the shape, shrunk by the prior */
    double sigma; /* the scale, > 0 */
} nfi_pareto;

/* The place of the first quartile among n sorted values, n >= 2, as the fit takes it. */
size_t nfi_pareto_quartile(size_t n);
/* Fits the distribution to x [n], sorted upwards, x >= 0, n >= 5. false if there is no finite fit: if the first
   quartile is 0 or so small that its reciprocal is infinite. NF_ENOMEM goes to *status, which else is NF_OK. */
bool nfi_pareto_fit(size_t n, const double *x, nfi_pareto *fit, nf_status *status);
/* The value that X exceeds with probability 1 - p, 0 < p < 1. */
double nfi_pareto_quantile(const nfi_pareto *fit, double p);

#endif
