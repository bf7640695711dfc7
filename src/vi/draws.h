/* Draws of an ELBO and the target's answers, in double: of the whole batch, or of one tile on scratch. */
#ifndef NFI_DRAWS_H
#define NFI_DRAWS_H
#include "vi/target.h"

typedef struct nfi_draws {
    size_t d;
    double *x, *grad; /* [n x d]; grad NULL: not wanted */
    double *log_q, *log_p, *log_det, *weight;
    unsigned char *rejected;
    unsigned char *drawn;   /* [n] or NULL: whether the draw is there, or was left out */
    const uint32_t *column; /* where column s of the tile stands; NULL: at s */
} nfi_draws;

static inline size_t nfi_draw_place(const nfi_draws *w, size_t s)
{
    return w->column ? w->column[s] : s;
}

/* Doubles a draw needs, the flag of its rejection included. */
size_t nfi_draw_doubles(size_t d, bool gradient);
/* Arrays for n draws in so much memory; without `drawn`. */
nfi_draws nfi_draws_in(double *memory, size_t n, size_t d, bool gradient);
/* Those from `first` on. */
nfi_draws nfi_draws_part(const nfi_draws *w, size_t first, const uint32_t *column);
/* Asks the target for those of n draws that are there: they close ranks, and their answers go back to their places.
   `first`: the first one's number in the step. */
nf_status nfi_draws_ask(const nfi_draws *w, const nf_target *target, size_t first, size_t n);

#endif
