/* The points through which a quasi-Newton method climbs to a mode of a target. */
#ifndef NFI_PATH_H
#define NFI_PATH_H
#include "vi/target.h"

typedef struct nfi_path {
    size_t d;
    size_t n;      /* points; the first is the start */
    size_t room;   /* points that fit */
    double *x, *g; /* [n x d] points, and the gradients of log p there */
    double *log_p; /* [n] */
    double *memory;
} nfi_path;

/* Room for a path of up to `iterations` steps. */
nf_status nfi_path_begin(nfi_path *p, size_t d, size_t iterations);
void nfi_path_end(nfi_path *p);
/* Climbs from x0 [d]. p->n is 0 afterwards if the target has no finite log p and gradient at x0. A search that ends
   early (no step improves log p, or there is no end) is no error: the points up to there are the path. */
nf_status nfi_path_climb(nfi_path *p, const nf_target *t, const double *x0);

#endif
