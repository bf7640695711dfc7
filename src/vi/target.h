/* Targets from the inside. */
#ifndef NFI_TARGET_H
#define NFI_TARGET_H
#include "core/status.h"
#include <nflow/target.h>
#include <pthread.h>

/* The words for the first rejected draw. */
typedef struct nfi_rejection {
    pthread_mutex_t lock;
    bool final;    /* the text stays as it is */
    size_t sample; /* whose it is, if there is one */
    char text[NFI_MESSAGE_SIZE];
} nfi_rejection;

nf_status nfi_rejection_begin(nfi_rejection *r);
void nfi_rejection_end(nfi_rejection *r);
/* A sample was rejected in the calling thread, whose error message says why: kept if it is the lowest so far. */
void nfi_rejection_note(nfi_rejection *r, size_t sample);
/* A text that is there is never replaced. Returns it, or "". */
const char *nfi_rejection_settle(nfi_rejection *r);

/* One of the things that a target owns. */
typedef struct nfi_owned {
    void *user;
    void (*destroy)(void *user);
    struct nfi_owned *next;
} nfi_owned;

struct nf_target {
    size_t d;
    nf_thread_rule rule;
    nf_target_fn *f; /* what is called, with `user`; for a point callback the adapter, whose user is the target */
    void *user;
    nf_target_point_fn *point;
    void *point_user;
    double step;              /* of finite differences; 0: f gives gradients */
    nfi_owned *owned;         /* the last one first */
    nfi_rejection *rejection; /* in the same block of memory */
};

/* Calls f. Flags arrive cleared; rejected draws leave with log_p = -inf and a zero gradient. grad may be NULL. draws:
   the points are samples first .. first + n - 1, and words for a rejected one are noted. */
nf_status nfi_target_call(const nf_target *t, bool draws, size_t first, size_t n, const double *x, double *log_p,
                          double *grad, unsigned char *rejected);
/* nf_target_eval of samples first .. of a step that nfi_target_step announced; `rejected` is not NULL. */
nf_status nfi_target_draws(const nf_target *t, size_t first, size_t n, const double *x, double *log_p, double *grad,
                           unsigned char *rejected);
/* A new step begins: words for a rejection in an earlier one stay. */
void nfi_target_step(const nf_target *t);
/* grad [n x d] from differences of f about x, where it is log_p [n]; rejected [n] tells where it is not defined. */
nf_status nfi_target_differences(const nf_target *t, double step, size_t n, const double *x, const double *log_p,
                                 const unsigned char *rejected, double *grad);

#endif
