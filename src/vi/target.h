/* What a target consists of. */
#ifndef NFI_TARGET_H
#define NFI_TARGET_H
#include "base/status.h"
#include <nflow/target.h>
#include <pthread.h>

/* The message of the first rejected draw. */
typedef struct nfi_rejection {
    pthread_mutex_t lock;
    bool final;    /* the text will not change any more */
    bool words;    /* the text is the callback's own */
    size_t sample; /* number of the sample that the text is about, if there is a text */
    char text[NFI_MESSAGE_SIZE];
} nfi_rejection;

nf_status nfi_rejection_begin(nfi_rejection *r);
void nfi_rejection_end(nfi_rejection *r);
/* Called after a sample was rejected. `text` says why; `words`: it is the callback's own. The text is kept if no lower
   sample has one. The callback's own words come before other texts. */
void nfi_rejection_note(nfi_rejection *r, size_t sample, const char *text, bool words);
/* From now on a text that is there will not be replaced. Returns the text, or "". */
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
    nf_target_fn *f; /* the batched callback, called with `user`; for a point callback the adapter, whose user is the
                        target itself */
    void *user;
    nf_target_point_fn *point;
    void *point_user;
    double step;              /* of finite differences; 0: f itself gives gradients */
    nfi_owned *owned;         /* a list that begins with the last one added */
    nfi_rejection *rejection; /* allocated in one block with the target */
};

/* Calls f. The flags are cleared before. Draws that the callback rejects, or whose log p is -infinity
   or NaN, get rejected = 1, log_p = -inf and a gradient of zeros. grad may be NULL.
   `draws`: the points are the samples first .. first + n - 1, and the message for a rejected one is noted. */
nf_status nfi_target_call(const nf_target *t, bool draws, size_t first, size_t n, const double *x, double *log_p,
                          double *grad, unsigned char *rejected);
/* nf_target_eval for the samples first .. first + n - 1 of a step that nfi_target_step has announced. `rejected` must
   not be NULL. */
nf_status nfi_target_draws(const nf_target *t, size_t first, size_t n, const double *x, double *log_p, double *grad,
                           unsigned char *rejected);
/* Announces a new step. The message for a rejection in an earlier step stays as it is. */
void nfi_target_step(const nf_target *t);
/* grad [n x d] = differences of f around the points x, where its values are log_p [n]. rejected [n] marks the points
   where f is not defined. */
nf_status nfi_target_differences(const nf_target *t, double step, size_t n, const double *x, const double *log_p,
                                 const unsigned char *rejected, double *grad);

#endif
