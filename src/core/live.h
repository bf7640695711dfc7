/* Samples of a tile that fail cost themselves alone. A step finds them after the forward pass (nf_leave_out), closes
   the tile's ranks, so that the columns are those that are left, and runs the tile again; nothing that a failed sample
   left in memory reaches a sum. In batch calls the rows are marked instead.

   Columns are independent of each other everywhere but in sums over samples, so that is all it takes. */
#ifndef NFI_LIVE_H
#define NFI_LIVE_H
#include "core/tiles.h"

enum { NFI_WIDEST = 256 }; /* samples in a tile, at most */

/* Who is left of a tile. */
typedef struct nfi_live {
    size_t n_failed;
    unsigned char failed[NFI_WIDEST]; /* of the columns as they are now */
    uint32_t column[NFI_WIDEST];      /* [p->n] which of the tile's first columns they are */
} nfi_live;

/* Offers p->failed to whoever finds failures. p's tile has all its samples. */
void nfi_live_begin(nfi_live *l, nf_pass *p);
/* The same for a tile of which only the first p->n numbers of `column` are left. */
void nfi_live_resume(nfi_live *l, nf_pass *p, size_t n_failed, const uint32_t *column);
/* Leaves out what has been marked since: p->n and p->noise.column change. Whether anything was marked. p->n may be 0.
 */
bool nfi_live_drop(nfi_live *l, nf_pass *p);

/* Makes the rows of a batch call NaN that have a NaN in y [rows x ld] or in `log` [n] (NULL: none is there),
   throughout. Returns how many; `flags` [n], if not NULL, says which. */
size_t nfi_spoil(const nf_pass *p, size_t rows, nf_real *y, double *log, unsigned char *flags);

#endif
