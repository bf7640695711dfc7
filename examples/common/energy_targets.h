/*
 * The four energies of Rezende & Mohamed (2015, table 1), p(z) proportional to exp(-U(z)), z in R^2:
 *
 *     w1 = sin(2 pi z1 / 4),   w2 = 3 exp(-((z1 - 1) / 0.6)^2 / 2),   w3 = 3 sigmoid((z1 - 1) / 0.3)
 *     U1 = ((|z| - 2) / 0.4)^2 / 2 - ln(exp(-((z1 - 2) / 0.6)^2 / 2) + exp(-((z1 + 2) / 0.6)^2 / 2))
 *     U2 = ((z2 - w1) / 0.4)^2 / 2
 *     U3 = -ln(exp(-((z2 - w1) / 0.35)^2 / 2) + exp(-((z2 - w1 + w2) / 0.35)^2 / 2))
 *     U4 = -ln(exp(-((z2 - w1) / 0.4)^2 / 2)  + exp(-((z2 - w1 + w3) / 0.35)^2 / 2))
 *
 * U2 to U4 do not confine z1: exp(-U) has no finite integral and an ELBO no bound. A wall ((|z1| - 4)_+ / 0.1)^2 / 2
 * added to them makes the problem well posed and changes nothing where the paper draws it.
 */
#ifndef EXAMPLES_ENERGY_TARGETS_H
#define EXAMPLES_ENERGY_TARGETS_H
#include <nflow/target.h>

enum { N_ENERGIES = 4 };

typedef struct energy {
    int number; /* 1 to 4 */
    bool wall;
} energy;

/* An nf_target_fn; user points to an energy. May be called by several threads at once. */
int energy_log_p(void *user, size_t n, size_t d, const double *z, double *log_p, double *grad, unsigned char *rejected);

/* ln of the integral of exp(-U), by quadrature. NaN where it is infinite: U2 to U4 without the wall. */
double energy_log_z(energy e);

#endif
