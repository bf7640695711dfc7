/* What a target consists of. */
#ifndef NFI_TARGET_H
#define NFI_TARGET_H
#include "base/status.h"
#include <nflow/target.h>
#include <pthread.h>
#include <stdatomic.h>

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

/* What a target has computed since it was made. */
typedef struct nfi_counts {
    atomic_size_t calls, gradients, values, rejected;
    _Atomic uint64_t nanoseconds;
} nfi_counts;

/* The outputs that were declared. Without names, they are another target's (`behind`), or the point's own d numbers
   under default names. */
typedef struct nfi_outputs {
    size_t n;         /* how many outputs f has; 0 if f is NULL */
    nf_outputs_fn *f; /* NULL: the outputs are the point's own numbers */
    void *user;
    bool point_first;    /* the point's own numbers come before f's */
    char **names;        /* one block; NULL: none were declared */
    char *default_names; /* "x.1" ...; see nfi_default_names */
} nfi_outputs;

struct nf_target {
    size_t d;
    nf_thread_rule rule;
    nf_target_fn *f; /* the batched callback, called with `user`; for a point callback the adapter, whose user is the
                        target itself */
    void *user;
    nf_target_point_fn *point;
    void *point_user;
    double step;      /* of finite differences; 0: f itself gives gradients */
    nfi_owned *owned; /* a list that begins with the last one added */
    nfi_outputs outputs;
    const nf_target *behind;  /* the target that this one was pulled back from; NULL: none */
    nfi_rejection *rejection; /* this and `counts` are allocated in one block with the target */
    nfi_counts *counts;
};

/* A target like `as`. `callback`: whether f was given. */
nf_target *nfi_target_new(const nf_target *as, bool callback, const char *who);
/* nf_target_point_callback, for a function whose messages begin with `who`. */
nf_target *nfi_target_of_point(size_t d, nf_target_point_fn *f, void *user, nf_thread_rule rule, const char *who);

/* Why the first of the rejected draws of a call was rejected, or had no finite gradient. */
typedef struct nfi_reason {
    size_t sample;               /* its number in the call */
    bool words;                  /* the text is the callback's own */
    char text[NFI_MESSAGE_SIZE]; /* "" if there was no such draw */
} nfi_reason;
/* text [NFI_MESSAGE_SIZE] = `what`, and the first coordinates of the point x [d]. */
void nfi_point_text(size_t d, const double *x, const char *what, char *text);

/* Calls f. The flags are cleared before. Draws that the callback rejects, or whose log p is -infinity
   or NaN, get rejected = 1, log_p = -inf and a gradient of zeros. grad may be NULL.
   `why` NULL: the points are no draws, but those that finite differences need; rejected ones are not counted. */
nf_status nfi_target_call(const nf_target *t, nfi_reason *why, size_t n, const double *x, double *log_p, double *grad,
                          unsigned char *rejected);
/* The same with the gradient also where it is made of differences. The reason is written, and is for the caller to
 * note. */
nf_status nfi_target_ask(const nf_target *t, nfi_reason *why, size_t n, const double *x, double *log_p, double *grad,
                         unsigned char *rejected);
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

/* Gives the target's own coordinates names [d] as outputs. Outputs that it has declared come behind them. Messages
   begin with `who`. */
nf_status nfi_target_name_point(nf_target *t, const char *who, const char *const *names);
/* NF_EARG unless all names [n] can be columns of files: see nf_target_with_outputs. NF_ENOMEM. */
nf_status nfi_check_names(const char *who, size_t n, const char *const *names);
/* The default names "x.1" ... of d outputs: the bytes that they take (false on overflow), and these bytes. */
bool nfi_default_names_size(size_t d, size_t *bytes);
void nfi_default_names(size_t d, char *names);

#endif
