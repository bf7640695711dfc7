/* A sample that fails does not harm the other samples of its tile. A step finds failed samples after the forward pass
   (nf_leave_out). It then runs the tile again with the other samples only, which now fill the first columns without
   gaps. So nothing that a failed sample left in memory reaches a sum. In batch calls the failed samples are marked
   instead.

   Columns are independent of each other everywhere except in sums over samples, so nothing more is needed. */
#ifndef NFI_LIVE_H
#define NFI_LIVE_H
#include "object/tiles.h"

/* Which samples are left of a tile. */
typedef struct nfi_live {
    size_t n_failed;
    unsigned char failed[NFI_WIDEST]; /* for the columns as they are now */
    uint32_t column[NFI_WIDEST];      /* [p->n] for each present column: its number in the whole tile */
} nfi_live;

/* Sets p->failed, so that failures can be marked there. p's tile still has all its samples. */
void nfi_live_begin(nfi_live *l, nf_pass *p);
/* The same for a tile of which only the samples column[0] .. column[p->n - 1] are left. */
void nfi_live_resume(nfi_live *l, nf_pass *p, size_t n_failed, const uint32_t *column);
/* Leaves out the samples that were marked since: p->n and p->noise.column change, and p->n may become 0. Returns
   whether any sample was marked. */
bool nfi_live_drop(nfi_live *l, nf_pass *p);

/* Computes the samples of p and says in failed [p->n] which of them have no result. */
typedef nf_status nfi_live_fn(void *user, const nf_pass *p, unsigned char *failed);
/* Runs f, again and again without the samples that have failed, until none fails or none is left (p->n is then 0). What
   f took of the arenas before its last run is given back. */
nf_status nfi_live_run(nfi_live *l, nf_pass *p, nfi_thread *memory, nfi_live_fn *f, void *user);

/* What enters and leaves a tile of a batch call. Arrays may be NULL if their length is 0. */
typedef struct nfi_flow_of_tile {
    size_t n_x, n_ctx, n_y;
    const nf_real *x; /* [n_x x ld]; the context is that of the pass, [n_ctx x ld] */
    nf_real *y;       /* [n_y x ld] */
    double *log;      /* [n] or NULL */
} nfi_flow_of_tile;

/* For batch calls: a sample has failed if it has a NaN in x, in the context, in y or in `log`. NaN in what enters is
   looked for because a layer need not read every feature. All numbers of a failed sample in y and `log` become NaN.
   Returns how many samples failed; `flags` [n], if not NULL, says which. */
size_t nfi_spoil(const nf_pass *p, const nfi_flow_of_tile *io, unsigned char *flags);
/* The same for a batch call, whose thread counts its samples without a result. */
static inline void nfi_spoil_counted(const nf_pass *p, nfi_thread *memory, const nfi_flow_of_tile *io)
{
    memory->failed += nfi_spoil(p, io, NULL);
}

#endif
