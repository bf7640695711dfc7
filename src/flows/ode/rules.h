/* Explicit Runge-Kutta methods. A step of length h from z computes

       k_i = f(z + h sum_(j<i) a_ij k_j, t + c_i h),   z' = z + h sum_i b_i k_i,   error = h sum_i e_i k_i. */
#ifndef NFI_RULES_H
#define NFI_RULES_H
#include <nflow/ode.h>

enum { NFI_MOST_STAGES = 6 };

typedef struct nfi_rule {
    size_t stages; /* of which z' is made */
    /* Whether there is an error estimate. It reads one stage more, f(z', t + h), which is the next step's first. */
    bool adaptive;
    nf_real order; /* the error of a step is of the order h^order */
    nf_real a[NFI_MOST_STAGES][NFI_MOST_STAGES], b[NFI_MOST_STAGES], c[NFI_MOST_STAGES], e[NFI_MOST_STAGES + 1];
} nfi_rule;

extern const nfi_rule nfi_rules[]; /* by nf_solver */

#endif
