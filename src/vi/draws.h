/* The draws of an ELBO and the target's answers, in double. They are either those of the whole batch, or those of one
   tile on the scratch arena. */
#ifndef NFI_DRAWS_H
#define NFI_DRAWS_H
#include "vi/target.h"

typedef struct nfi_draws {
    size_t d;
    double *x, *grad; /* [n x d]; grad NULL: no gradient is wanted */
    double *log_q, *log_p, *log_det, *penalty;
    double *weight;     /* [n] with which a draw's loss counts */
    double *pull;       /* [n] with which the gradient of its own log q and log p counts: `weight`, if not in a group */
    double *group_loss; /* [n] the loss of its group; NULL: there are no groups */
    unsigned char *rejected;
    unsigned char *drawn;   /* [n] or NULL; 0: the sample was left out, so that there is no draw */
    const uint32_t *column; /* the place of the tile's sample s; NULL: s itself */
} nfi_draws;

static inline size_t nfi_draw_place(const nfi_draws *w, size_t s)
{
    return w->column ? w->column[s] : s;
}

/* How many doubles a draw needs. The flag of its rejection counts as one. */
size_t nfi_draw_doubles(size_t d, bool gradient);
/* Places the arrays for n draws in `memory`. `drawn` stays NULL. */
nfi_draws nfi_draws_in(double *memory, size_t n, size_t d, bool gradient);
/* The draws from `first` on. */
nfi_draws nfi_draws_part(const nfi_draws *w, size_t first, const uint32_t *column);
/* Asks the target about those of n draws that are there. For the call they are moved together without gaps;
   afterwards each answer is moved to the place of its draw. `first`: the number of the first draw in the step. */
nf_status nfi_draws_ask(const nfi_draws *w, const nf_target *target, size_t first, size_t n);

#endif
