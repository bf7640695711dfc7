/*
 * A law p(y | c) that no regression finds: two branches, whose distance, weights and width depend on c.
 *
 *     c ~ U(-2, 2),   y = sin(2 c) + b (1 + c / 2) + s(c) e,   e ~ N(0, 1),
 *     b = 1 with probability w(c) = (3 + c) / 10, otherwise -1,   s(c) = 0.3 + 0.1 c.
 */
#ifndef EXAMPLES_CONDITIONAL_LAW_H
#define EXAMPLES_CONDITIONAL_LAW_H
#include <nflow/noise.h>

/* n rows (c, y), [n x 2]. */
void conditional_law_rows(uint64_t seed, size_t n, nf_real *x);
/* log p(y | c). */
double conditional_law_log_p(double c, double y);
/* The mean over c of the entropy of y given c, by quadrature: to 1e-6 nats. */
double conditional_law_entropy(void);

#endif
