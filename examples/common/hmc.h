/*
 * Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011) on a target over R^d, with the unit matrix for the masses:
 *
 *     H(z, p) = |p|^2 / 2 - log p(z),   p ~ N(0, I) at the start of each iteration,
 *
 * then leapfrog steps, whose end is the next draw with the probability min(1, exp(H(start) - H(end))); otherwise the
 * draw before it comes once more.
 *
 * All chains move together: one call of the target for a step of all of them, with one step size, which is adapted by
 * dual averaging in the warm-up. A trajectory has a random length, so that no chain turns back to where it was again
 * and again.
 */
#ifndef EXAMPLES_HMC_H
#define EXAMPLES_HMC_H
#include <nflow/target.h>
#include <stdbool.h>

/* Options; 0 means the default. */
typedef struct hmc_options {
    size_t chains;     /* 8 */
    size_t warm_up;    /* iterations that adapt the step, and are not kept; 500 */
    size_t draws;      /* iterations of each chain that are kept; 1000 */
    double length;     /* of a trajectory in the mean, step size times steps; pi/2, a quarter of a unit normal's turn */
    double acceptance; /* the mean of the acceptance probabilities at which dual averaging aims; 0.8 */
    uint64_t seed;
    int (*callback)(void *user, size_t iteration, size_t iterations); /* other than 0 ends the run; NULL: none */
    void *user;
} hmc_options;

typedef struct hmc_run {
    size_t chains, draws, d;
    double *z;         /* [chains x draws x d] */
    double step;       /* the step size after the warm-up */
    double acceptance; /* the mean after the warm-up */
    size_t gradients;  /* points at which a gradient was computed, the warm-up's included */
    size_t divergent;  /* ends of trajectories after the warm-up with an energy error above 1000, or with none */
    bool stopped;      /* the callback has ended the run: z is not complete */
} hmc_run;

/* Runs chains that begin at start [chains x d]. Release the run by hmc_free(), also after an error. NF_ETARGET: the
   target has failed, or rejects a start; NF_ENOMEM. */
nf_status hmc_sample(const nf_target *t, const double *start, const hmc_options *options, hmc_run *run);
void hmc_free(hmc_run *run);

/* n points on their way: positions, momenta and gradients [n x d], log densities [n]. */
typedef struct hmc_state {
    size_t n, d;
    double *z, *p, *grad, *log_p;
} hmc_state;

/* Makes `steps` leapfrog steps of all points; log_p and grad are those at z, before and after. Where the target rejects
   a point its gradient is 0: it flies on straight, which can be reversed as well as any other step. */
nf_status hmc_leapfrog(const nf_target *t, hmc_state *s, double step, size_t steps);
/* H of point i; infinity where the target rejects it. */
double hmc_energy(const hmc_state *s, size_t i);

#endif
