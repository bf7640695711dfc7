/* Normal approximations of a target along a path to a mode. */
#ifndef NFI_GAUSSIAN_H
#define NFI_GAUSSIAN_H
#include "vi/path.h"

/* Up to so many dimensions a mean-field start is written as a full matrix, and the last affine map of a flow is a full
   one: later fits need the room, and it costs little. With more dimensions it would take most of the time. */
enum { NFI_FULL_MAP = 100 };

/* x = mean + L z, z standard normal. */
typedef struct nfi_gaussian {
    size_t d;
    bool diagonal; /* L is diagonal */
    double *mean;  /* [d] */
    double *l;     /* [d x d] by rows, of which the lower triangle counts; [d] if diagonal */
    double elbo;   /* -infinity before there is any */
    double se;     /* standard error of elbo; infinity before there is any */
    bool laplace;  /* found from second derivatives at the end of the path */
    size_t point;  /* of the path */
} nfi_gaussian;

/* Draws that all approximations share, and memory to compare with. */
typedef struct nfi_comparison {
    const nf_target *target;
    size_t d, n;   /* up to n draws are used */
    double *z, *x; /* [n x d] */
    double *log_p; /* [n] */
    unsigned char *rejected;
    double *memory;
} nfi_comparison;

nf_status nfi_gaussian_begin(nfi_gaussian *a, size_t d, bool diagonal);
void nfi_gaussian_end(nfi_gaussian *a);
nf_status nfi_comparison_begin(nfi_comparison *c, const nf_target *t, size_t n, uint64_t seed);
void nfi_comparison_end(nfi_comparison *c);

/* a->elbo and a->se by the first n draws. If the target rejects some, it is the ELBO of the normal restricted to what
   it takes: the mean over those, and the log of their share. -infinity if it rejects all. */
nf_status nfi_gaussian_elbo(nfi_gaussian *a, const nfi_comparison *c, size_t n);
/* The best approximation along a path, each tried by `draws` draws; it is diagonal if *best is. best->elbo is -infinity
   if the path has none. */
nf_status nfi_gaussian_along(nfi_gaussian *best, const nfi_path *path, const nfi_comparison *c, size_t draws);
/* The diagonal approximation with the largest ELBO, from x0 [d]. a->elbo is to be found out by other draws. `number`
   names the draws. *usable: the target accepts points around x0. */
nf_status nfi_gaussian_mean_field(nfi_gaussian *a, const nf_target *t, const double *x0, uint64_t seed, uint64_t number,
                                  bool *usable);
/* Laplace's approximation at the path's end, not diagonal. *usable: there is one. */
nf_status nfi_gaussian_laplace(nfi_gaussian *a, const nfi_path *path, const nf_target *t, bool *usable);

#endif
