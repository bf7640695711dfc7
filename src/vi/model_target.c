/* A target from the distribution of a model, at one context: log p(x | c) and its gradient in x. The target's numbers
   are double, the model's nf_real. */
#include "base/status.h"
#include "model/batch.h"
#include "vi/spares.h"
#include <nflow/target.h>
#include <string.h>

typedef struct density {
    const nf_model *m;
    nfi_spares spares; /* several threads may call at the same time */
    nf_real ctx[];     /* [n_ctx] */
} density;

/* Rows of x, of the context and of the gradient, in the model's precision. */
static nf_status score(const density *q, nf_workspace *ws, size_t n, size_t d, const double *x, double *log_p,
                       double *grad)
{
    const size_t n_ctx = q->m->o->total.n_ctx;
    nf_real *rows = nf_arena_reals(&ws->shared, n, d), *gx = grad ? nf_arena_reals(&ws->shared, n, d) : NULL;
    nf_real *ctx = n_ctx ? nf_arena_reals(&ws->shared, n, n_ctx) : NULL;
    if (!rows || (grad && !gx) || (n_ctx && !ctx))
        return NF_ENOMEM;
    for (size_t i = 0; i < n * d; i++)
        rows[i] = (nf_real)x[i];
    for (size_t i = 0; i < n && n_ctx; i++)
        memcpy(ctx + i * n_ctx, q->ctx, n_ctx * sizeof *ctx);
    const nf_status status = grad ? nf_log_prob_gradient(q->m, ws, NULL, n, rows, ctx, log_p, gx, NULL)
                                  : nf_log_prob(q->m, ws, NULL, n, rows, ctx, log_p);
    for (size_t i = 0; grad && i < n * d; i++)
        grad[i] = (double)gx[i];
    return status;
}

/* An nf_target_fn. A log p of NaN or -infinity rejects its point. */
static int call(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)rejected;
    density *q = user;
    nfi_spare *spare = nfi_spares_take(&q->spares);
    const nf_status status = spare ? score(q, spare->ws, n, d, x, log_p, grad) : NF_ENOMEM;
    if (spare)
        nfi_spares_give_back(&q->spares, spare);
    return status == NF_OK ? NF_OK : (int)nf_error(NF_ETARGET, "nf_target_of_model: %s", nf_error_message());
}

static void destroy(void *user)
{
    density *q = user;
    nfi_spares_end(&q->spares);
    nfi_free(q);
}

nf_target *nf_target_of_model(const nf_model *m, const nf_real *ctx)
{
    static const char who[] = "nf_target_of_model";
    if (!m) {
        nfi_missing(who, "`m`");
        return NULL;
    }
    const nf_shape *s = &m->o->total;
    if (nfi_check_batch(who, m, NFI_DIST, 1, m, ctx) != NF_OK)
        return NULL;
    if (s->flags & NF_STOCHASTIC) {
        nf_error(NF_EUNSUPPORTED, "%s: the %s draws noise whenever it is scored", who, m->o->part->name);
        return NULL;
    }
    density *q = nfi_calloc(1, sizeof *q + s->n_ctx * sizeof *ctx); /* no overflow: the caller has such an array */
    if (!q || nfi_spares_begin(&q->spares) != NF_OK) {
        nfi_free(q);
        return NULL;
    }
    q->m = m;
    if (s->n_ctx)
        memcpy(q->ctx, ctx, s->n_ctx * sizeof *ctx);
    return nf_target_own(nf_target_callback(s->dim_out, call, q, NF_THREADSAFE), q, destroy);
}
