/* The uniform distribution on the cube [low, high]^dim (uniform_kernels.c). It has no parameters. Its gradient is 0,
   inside the cube and outside. */
#include "base/memory.h"
#include "math/noise.h"
#include "object/options.h"
#include "object/tree.h"
#include "dist/kernels.h"
#include "dist/types.h"
#include <float.h>
#include <math.h>
#include <string.h>

typedef struct uniform {
    double low, high; /* numbers of nf_real */
} uniform;

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    (void)saved;
    const uniform *b = nf_self(o);
    size_t dim = o->total.dim_out;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *u = nf_arena_alloc(p->scratch, dim * p->ld * sizeof *u);
    if (u) {
        nfi_noise_uniform_d(&p->noise, dim, p->n, p->ld, u);
        nfi_uniform_draw(dim * p->ld, (nf_real)b->low, (nf_real)b->high, u, x);
        nfi_uniform_score(dim, p->ld, (nf_real)b->low, (nf_real)b->high, x, log_q);
    }
    nf_arena_rewind(p->scratch, mark);
    return u ? NF_OK : NF_ENOMEM;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)saved;
    const uniform *b = nf_self(o);
    nfi_uniform_score(o->total.dim_out, p->ld, (nf_real)b->low, (nf_real)b->high, x, log_p);
    return NF_OK;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)x, (void)saved, (void)g_log_p, (void)g;
    if (gx)
        memset(gx, 0, o->total.dim_out * p->ld * sizeof *gx);
    return NF_OK;
}

static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_REAL, uniform, low), .least = -DBL_MAX, .flags = NF_OPTION_REQUIRED, .help = "lower bound"},
    {NF_OPTION(NF_OPTION_REAL, uniform, high), .least = -DBL_MAX, .flags = NF_OPTION_REQUIRED, .help = "upper bound"},
};
static const nf_option_table table = NF_OPTION_TABLE("nf_uniform", uniform, options_of_type, NULL);

NFI_REBUILD(dist, uniform, nf_uniform(nf_read_dim_out(r), q->low, q->high))

const nf_dist_type nfi_uniform_type = {
    .part = {.name = "uniform", .destroy = nfi_free},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = nfi_sample_vjp_none,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
    .options = &table,
};

nf_dist *nf_uniform(size_t dim, double low, double high)
{
    uniform bounds = {(double)(nf_real)low, (double)(nf_real)high};
    if (dim == 0) {
        nf_error(NF_EARG, "nf_uniform: `dim` is 0");
        return NULL;
    }
    if (!(bounds.low < bounds.high) || !isfinite(bounds.low) || !isfinite((nf_real)(bounds.high - bounds.low))) {
        nf_error(NF_EARG, "nf_uniform: `low` is %g and `high` %g: they must be finite, and far enough apart", low,
                 high);
        return NULL;
    }
    uniform *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = bounds;
    nf_shape own = {.dim_in = dim, .dim_out = dim, .flags = NF_PER_SAMPLE};
    return nf_dist_new(&nfi_uniform_type, &own, self, NULL, 0);
}
