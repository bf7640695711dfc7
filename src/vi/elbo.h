/* What the files of the ELBO share: elbo.c has its steps, elbo_tile.c the loss and the gradient of a tile, elbo_score.c
   the gradient by the score, elbo_groups.c the weights of groups of draws. */
#ifndef NFI_ELBO_H
#define NFI_ELBO_H
#include "vi/draws.h"
#include <nflow/vi.h>

typedef struct nfi_elbo {
    const nf_object *dist;
    const nf_target *target;
    size_t d;
    nf_schedule joint, kl;
    nf_gradient gradient;
    size_t group;        /* draws of a group, 1: none */
    double alpha;        /* the order of the groups' bound */
    double beta, weight; /* the values of the two schedules in this step */
    bool wants_gradient; /* of the target, in this step */
    bool gathered;       /* whether all draws of this step have the target's answers */
    nfi_draws batch;     /* only for serial targets and groups */
    double *memory;      /* the memory that the arrays of `batch` are in */
} nfi_elbo;

/* What is kept of a tile until its gradient is computed. */
typedef struct nfi_elbo_tile {
    nf_real *x; /* [d x ld] */
    void *saved;
} nfi_elbo_tile;

/* Sums over a tile's draws. */
typedef struct nfi_elbo_sums {
    double rejected; /* how many */
    double accepted; /* W */
    double drawn;    /* sum of the weights of all draws */
    double square;   /* sum of w_i^2 over accepted draws */
    double mean;     /* m; 0 if no draw is accepted */
} nfi_elbo_sums;

/* What nf_sums.term has. The last two are sums of weights, over the accepted draws and over all. In the report the
   third is log_accepted and the fourth 0. */
enum { NFI_LOG_Q, NFI_LOG_P, NFI_ACCEPTED, NFI_DRAWN };

/* Samples a tile. *t receives x and what the gradient needs, in memory of `keep`. If no draw has failed (see
   p->failed), `to` receives x, log q, log-dets and weights. */
nf_status nfi_elbo_draw(const nfi_elbo *e, const nf_pass *p, nf_arena *keep, nfi_elbo_tile *t, const nfi_draws *to);
/* loss [n] = l_i, and 0 for a rejected draw. */
nfi_elbo_sums nfi_elbo_losses(const nfi_elbo *e, size_t n, const nfi_draws *w, double *loss);
/* Adds a tile's losses and terms to the sums of the step. */
void nfi_elbo_add_up(size_t n, const nfi_draws *w, const double *loss, const nfi_elbo_sums *a, nf_sums *to);
/* The gradient by the score. loss [3 x ld]: memory, of which the first ld numbers become the losses. */
nf_status nfi_elbo_score(const nfi_elbo *e, const nf_pass *p, const nfi_elbo_tile *t, const nfi_draws *w, double *loss,
                         nf_sums *to, const nf_grad *g);
/* Gives the draws of all groups of the step their losses and weights, from log q and the target's answers. */
void nfi_groups_weigh(const nfi_elbo *e, const nf_step *step);
/* nfi_elbo_means for groups. */
double nfi_groups_means(const nf_step *step, const nf_sums *sums, nf_step_report *report);
/* Computes a tile's sums and gradient from the target's answers. */
nf_status nfi_elbo_finish(const nfi_elbo *e, const nf_pass *p, const nfi_elbo_tile *t, const nfi_draws *w,
                          nf_sums *sums, const nf_grad *g);
/* See nf_objective_type.means. */
double nfi_elbo_means(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report);

#endif
