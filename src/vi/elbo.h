/* What the two files of the ELBO share: elbo.c has its steps, elbo_tile.c has the loss and the gradient of a tile. */
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
    double beta, weight; /* the values of the two schedules in this step */
    nfi_draws batch;     /* only for serial targets */
    double *memory;      /* the memory that the arrays of `batch` are in */
} nfi_elbo;

/* What is kept of a tile until its gradient is computed. */
typedef struct nfi_elbo_tile {
    nf_real *x; /* [d x ld] */
    void *saved;
} nfi_elbo_tile;

/* What nf_sums.term has. The last two are sums of weights, over the accepted draws and over all. In the report the
   third is log_accepted and the fourth 0. */
enum { NFI_LOG_Q, NFI_LOG_P, NFI_ACCEPTED, NFI_DRAWN };

/* Samples a tile. *t receives x and what the gradient needs, in memory of `keep`. If no draw has failed (see
   p->failed), `to` receives x, log q, log-dets and weights. */
nf_status nfi_elbo_draw(const nfi_elbo *e, const nf_pass *p, nf_arena *keep, nfi_elbo_tile *t, const nfi_draws *to);
/* Computes a tile's sums and gradient from the target's answers. */
nf_status nfi_elbo_finish(const nfi_elbo *e, const nf_pass *p, const nfi_elbo_tile *t, const nfi_draws *w,
                          nf_sums *sums, const nf_grad *g);
/* See nf_objective_type.means. */
double nfi_elbo_means(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report);

#endif
