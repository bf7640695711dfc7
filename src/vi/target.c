/*
 * Targets: an unnormalised log density log p(x) + const over R^d and its gradient, from a caller's function. What
 * the function returns is passed on unchanged, also for non-finite x. Only rejected draws are changed: they get log
 * p = -infinity and a gradient of zeros. Draws whose log p is -infinity or NaN count as rejected.
 */
#include "vi/target.h"
#include "base/memory.h"
#include "fit/fitter.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Gives a batch to a function of one point. This function is itself a batched callback, whose user is the target. If
   rejected points have messages, the first of them is left as the error message. */
static int each_point(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                      unsigned char *rejected)
{
    const nf_target *t = user;
    nfi_message first = {.status = NF_OK}, other;
    for (size_t i = 0; i < n; i++) {
        int code = t->point(t->point_user, d, x + i * d, log_p + i, grad ? grad + i * d : NULL);
        if (code < 0 || code == NF_ETARGET)
            return code;
        rejected[i] = code > 0;
        if (nf_error_status() != NF_OK)
            nfi_message_set_aside(rejected[i] && nf_error_status() == NF_ETARGET && !first.status ? &first : &other);
    }
    if (first.status)
        nfi_message_put_back(&first);
    return 0;
}

/* A target whose outputs are another one's has no names of its own. */
nf_target *nfi_target_new(const nf_target *as, bool callback, const char *who)
{
    if (as->d == 0) {
        nf_error(NF_EARG, "%s: d is 0, but must be at least 1", who);
        return NULL;
    }
    if (!callback) {
        nf_error(NF_EARG, "%s: f is NULL", who);
        return NULL;
    }
    if (as->rule != NF_SERIAL && as->rule != NF_THREADSAFE) {
        nf_error(NF_EARG, "%s: rule is %d, neither NF_SERIAL nor NF_THREADSAFE", who, (int)as->rule);
        return NULL;
    }
    struct whole {
        nf_target target;
        nfi_rejection rejection;
        nfi_counts counts;
        char names[]; /* the default names of outputs */
    } *whole = NULL;
    size_t bytes;
    if (nfi_default_names_size(as->behind ? 0 : as->d, &bytes) && nfi_add(bytes, sizeof *whole, &bytes))
        whole = nfi_calloc(1, bytes);
    else
        nf_error(NF_ENOMEM, "%s: the names of %zu outputs do not fit in memory", who, as->d);
    if (!whole)
        return NULL;
    if (nfi_rejection_begin(&whole->rejection)) {
        nfi_free(whole);
        return NULL;
    }
    whole->target = *as;
    whole->target.rejection = &whole->rejection;
    whole->target.counts = &whole->counts;
    whole->target.outputs.default_names = whole->names;
    nfi_default_names(as->behind ? 0 : as->d, whole->names);
    return &whole->target;
}

nf_target *nf_target_callback(size_t d, nf_target_fn *f, void *user, nf_thread_rule rule)
{
    return nfi_target_new(&(nf_target){.d = d, .rule = rule, .f = f, .user = user}, f, "nf_target_callback");
}

nf_target *nfi_target_of_point(size_t d, nf_target_point_fn *f, void *user, nf_thread_rule rule, const char *who)
{
    const nf_target as = {.d = d, .rule = rule, .f = each_point, .point = f, .point_user = user};
    nf_target *t = nfi_target_new(&as, f, who);
    if (t)
        t->user = t;
    return t;
}

nf_target *nf_target_point_callback(size_t d, nf_target_point_fn *f, void *user, nf_thread_rule rule)
{
    return nfi_target_of_point(d, f, user, rule, "nf_target_point_callback");
}

nf_target *nf_target_finite_difference(size_t d, nf_target_fn *f, void *user, nf_thread_rule rule, double step)
{
    const char *who = "nf_target_finite_difference";
    if (!(step >= 0 && step < 1)) {
        nf_error(NF_EARG, "%s: step is %g, but must be in [0, 1)", who, step);
        return NULL;
    }
    const nf_target as = {.d = d, .rule = rule, .f = f, .user = user, .step = step > 0 ? step : cbrt(0x1p-52)};
    return nfi_target_new(&as, f, who);
}

nf_target *nf_target_own(nf_target *t, void *user, void (*destroy)(void *user))
{
    nfi_owned *o = NULL;
    if (!t)
        nfi_missing("nf_target_own", "`t`");
    else if (!destroy)
        nf_error(NF_EARG, "nf_target_own: destroy is NULL");
    else
        o = nfi_calloc(1, sizeof *o);
    if (!o) {
        if (destroy)
            destroy(user);
        nf_target_free(t);
        return NULL;
    }
    *o = (nfi_owned){.user = user, .destroy = destroy, .next = t->owned};
    t->owned = o;
    return t;
}

void nf_target_free(nf_target *t)
{
    if (!t)
        return;
    for (nfi_owned *o = t->owned, *next; o; o = next) {
        next = o->next;
        o->destroy(o->user);
        nfi_free(o);
    }
    nfi_rejection_end(t->rejection);
    nfi_free(t->outputs.names);
    nfi_free(t);
}

size_t nf_target_dim(const nf_target *t)
{
    return t ? t->d : 0;
}

nf_thread_rule nf_target_rule(const nf_target *t)
{
    return t ? t->rule : NF_SERIAL;
}

const char *nf_target_rejection(const nf_target *t)
{
    return t ? nfi_rejection_settle(t->rejection) : "";
}

void nfi_target_step(const nf_target *t)
{
    nfi_rejection_settle(t->rejection);
}

static bool all_finite(size_t n, const double *v)
{
    uint64_t any = 0; /* the compiler vectorises this loop */
    for (size_t i = 0; i < n; i++)
        any |= (uint64_t) !(fabs(v[i]) <= DBL_MAX);
    return !any;
}

static void count_points(const nf_target *t, bool gradient, size_t n, size_t rejected)
{
    atomic_fetch_add_explicit(&t->counts->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(gradient ? &t->counts->gradients : &t->counts->values, n, memory_order_relaxed);
    if (rejected)
        atomic_fetch_add_explicit(&t->counts->rejected, rejected, memory_order_relaxed);
}

void nf_target_count(const nf_target *t, nf_target_counts *counts)
{
    if (!counts)
        return;
    *counts = (nf_target_counts){0};
    if (t)
        *counts = (nf_target_counts){.gradients = atomic_load(&t->counts->gradients),
                                     .values = atomic_load(&t->counts->values),
                                     .rejected = atomic_load(&t->counts->rejected),
                                     .calls = atomic_load(&t->counts->calls),
                                     .seconds = 1e-9 * (double)atomic_load(&t->counts->nanoseconds)};
}

void nfi_point_text(size_t d, const double *x, const char *what, char *text)
{
    snprintf(text, NFI_MESSAGE_SIZE, "%s at (", what);
    size_t k = 0;
    for (size_t used; k < d && (used = strlen(text)) + 40 < NFI_MESSAGE_SIZE; k++)
        snprintf(text + used, NFI_MESSAGE_SIZE - used, "%s%.6g", k ? ", " : "", x[k]);
    strcat(text, k < d ? ", ...)" : ")");
}

/* Says why point `sample` of a call, x [d], cannot be used: the callback's own words, or if they are NULL, `what` and
   where. */
static void explain(nfi_reason *why, size_t sample, size_t d, const double *x, const char *words, const char *what)
{
    why->sample = sample;
    why->words = words;
    if (words)
        snprintf(why->text, sizeof why->text, "%s", words);
    else
        nfi_point_text(d, x, what, why->text);
}

/* Calls the callback. A message that the callback leaves although it succeeds is the reason of the first rejected draw.
   After that the message from before the call is put back. */
nf_status nfi_target_call(const nf_target *t, nfi_reason *why, size_t n, const double *x, double *log_p, double *grad,
                          unsigned char *rejected)
{
    nfi_message kept;
    memset(rejected, 0, n);
    for (size_t i = 0; i < n; i++) /* what the callback does not write is seen */
        log_p[i] = NAN;
    for (size_t i = 0; grad && i < n * t->d; i++)
        grad[i] = NAN;
    if (why)
        why->text[0] = 0;
    nfi_message_set_aside(&kept);
    const double began = nfi_fit_clock();
    int code = t->f(t->user, n, t->d, x, log_p, grad, rejected);
    atomic_fetch_add_explicit(&t->counts->nanoseconds, (uint64_t)(1e9 * (nfi_fit_clock() - began)),
                              memory_order_relaxed);
    bool words = nf_error_status() == NF_ETARGET; /* the callback itself has called nf_error */
    if (code != 0) {
        count_points(t, grad, n, 0);
        return words ? NF_ETARGET
                     : nf_error(NF_ETARGET,
                                "the target's callback returned %d for a batch of %zu points in %zu dimensions", code,
                                n, t->d);
    }
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        const bool flagged = rejected[i], first = why && !why->text[0];
        if (!flagged && log_p[i] > -INFINITY) {
            if (first && grad && !all_finite(t->d, grad + i * t->d))
                explain(why, i, t->d, x + i * t->d, NULL, "the gradient is not finite, or was not written,");
            continue;
        }
        if (first)
            explain(why, i, t->d, x + i * t->d, words ? nf_error_message() : NULL,
                    flagged           ? "rejected"
                    : isnan(log_p[i]) ? "log p is nan"
                                      : "log p is -inf");
        out++;
        rejected[i] = 1;
        log_p[i] = -INFINITY;
        if (grad)
            memset(grad + i * t->d, 0, t->d * sizeof *grad);
    }
    count_points(t, grad, n, why ? out : 0);
    nfi_message_put_back(&kept);
    return NF_OK;
}

nf_status nfi_target_ask(const nf_target *t, nfi_reason *why, size_t n, const double *x, double *log_p, double *grad,
                         unsigned char *rejected)
{
    nf_status st = nfi_target_call(t, why, n, x, log_p, t->step > 0 ? NULL : grad, rejected);
    if (!st && grad && t->step > 0)
        st = nfi_target_differences(t, t->step, n, x, log_p, rejected, grad);
    return st;
}

nf_status nfi_target_draws(const nf_target *t, size_t first, size_t n, const double *x, double *log_p, double *grad,
                           unsigned char *rejected)
{
    nfi_reason why;
    const nf_status st = nfi_target_ask(t, &why, n, x, log_p, grad, rejected);
    if (!st && why.text[0])
        nfi_rejection_note(t->rejection, first + why.sample, why.text, why.words);
    return st;
}

nf_status nf_target_eval(const nf_target *t, size_t n, const double *x, double *log_p, double *grad,
                         unsigned char *rejected)
{
    if (!t || !x || !log_p)
        return nf_error(NF_EARG, "nf_target_eval: %s is NULL", !t ? "t" : !x ? "x" : "log_p");
    if (n == 0)
        return NF_OK;
    unsigned char *flags = rejected ? rejected : nfi_calloc(n, 1);
    if (!flags)
        return NF_ENOMEM;
    nfi_target_step(t);
    nf_status st = nfi_target_draws(t, 0, n, x, log_p, grad, flags);
    if (!rejected)
        nfi_free(flags);
    return st;
}
