/* The normal approximations from which inference starts. */
#ifndef NFI_START_H
#define NFI_START_H
#include "vi/gaussian.h"
#include <nflow/inference.h>

typedef struct nfi_start {
    size_t n;           /* paths */
    nfi_gaussian *path; /* [n] the best approximation of each; elbo is -infinity if there is none */
    size_t best;        /* the path with the largest elbo */
    double log_p;       /* the largest that was met */
} nfi_start;

/* nf_start() with the best approximation of every path. `options` may be NULL. */
nf_status nfi_start_find(nfi_start *s, const nf_target *t, const nf_start_options *options);
void nfi_start_end(nfi_start *s);
/* What nf_start() reports of it. */
nf_start_report nfi_start_report(const nfi_start *s);
/* A model of an approximation: of nf_full_normal() or nf_diagonal_normal(). NULL with a message. */
nf_model *nfi_gaussian_model(const nfi_gaussian *a);

#endif
