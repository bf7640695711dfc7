/* Estimates of log det(I + J), J = dg/dx (Chen et al. 2019, eq. 6):

       sum_k c_k / k <v, J^k v>,   c_k = (-1)^(k+1) / P(N >= k) for k <= N, else 0,

   the mean over probes v of independent signs. N is a number of terms, or random: `terms` more a geometric number.
   Since tr(M dJ) has the estimate <v, dJ M v>, the gradient of the log-det, tr((I + J)^-1 dJ), has the estimate (eq. 8)

       <v, dJ w>,   w = sum_k c_k J^(k-1) v constant.

   So both need the same tangents J^k v, the way back one product whatever N is, and the memory does not grow with N.
   The gradient is the truncated sum's in the mean over v, and not probe by probe. Samples whose series has ended are
   left out of further tangents once half of a tile is free of them. */
#include "flows/residual/contraction.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

/* P(N >= k), 0 beyond the last term. */
static double share_of_term(const nf_residual_flow_options *options, const nfi_log_det_method *q, size_t k)
{
    if (k <= q->terms)
        return 1;
    return q->log_det == NF_LOG_DET_ROULETTE ? pow(options->survival, (double)(k - q->terms)) : 0;
}

/* Independent signs v [dim x probes x ld], and a uniform number u [ld] for each sample. */
static nf_status draw(const nf_pass *p, size_t rows, nf_real *v, nf_real **u)
{
    const size_t ld = p->ld;
    nf_real *numbers = nf_arena_reals(p->scratch, rows + 1, ld);
    if (!numbers)
        return NF_ENOMEM;
    nf_noise_uniform(&p->noise, rows + 1, p->n, ld, numbers);
    for (size_t i = 0; i < rows * ld; i++)
        v[i] = numbers[i] < NF_R(0.5) ? -1 : 1;
    *u = numbers + rows * ld;
    return NF_OK;
}

/* The samples whose series go on: x, g and the net's records; u [ld]; v, w, power (J^(k-1) v) and next (J^k v), each
   [dim x probes x ld]; coefficients and terms [probes x ld]. */
typedef struct series {
    nfi_narrow tile;
    const nf_real *x;
    nfi_contraction_saved at;
    nf_real *u, *v, *w, *power, *next, *c;
    double *term;
} series;

static bool make_room(size_t rows, size_t probes, series *q)
{
    nf_arena *scratch = q->tile.p.scratch;
    const size_t ld = q->tile.p.ld;
    q->next = nf_arena_reals(scratch, rows, ld);
    q->c = nf_arena_reals(scratch, probes, ld);
    q->term = nf_arena_alloc(scratch, probes * ld * sizeof *q->term);
    return q->next && q->c && q->term;
}

/* Leaves out the samples whose c is 0, if that pays. Their w is put to its place in `whole` [rows x ld] before. */
static nf_status narrow(const nf_object *o, size_t rows, size_t probes, size_t ld, series *q, nf_real *whole,
                        bool *done)
{
    const nfi_narrow before = q->tile, *t = &q->tile;
    const nf_status status = nfi_narrow_to(o, q->c, &q->tile, done);
    if (status != NF_OK || !*done)
        return status;
    if (q->w != whole)
        nfi_narrow_put(&before, rows, q->w, ld, whole);
    q->x = nfi_narrow_copy(t, nf_object_shape(o)->dim_in, q->x);
    q->u = nfi_narrow_copy(t, 1, q->u);
    q->v = nfi_narrow_copy(t, rows, q->v);
    q->w = nfi_narrow_copy(t, rows, q->w);
    q->power = nfi_narrow_copy(t, rows, q->power);
    if (!q->x || !q->u || !q->v || !q->w || !q->power || !make_room(rows, probes, q))
        return NF_ENOMEM;
    return nfi_contraction_net(o, &t->p, q->x, &q->at);
}

/* The series of all samples of a tile: sum [probes x ld] += their terms; w [dim x probes x ld] as above. */
static nf_status run(const nf_object *o, size_t ld, series *q, double *sum, nf_real *w)
{
    const nfi_log_det_method *method = nfi_contraction_method(o, &q->tile.p);
    const size_t probes = method->directions, dim = nf_object_shape(o)->dim_in, rows = dim * probes;
    const nf_pass *p = &q->tile.p;
    nf_status status = NF_OK;
    for (size_t k = 1; status == NF_OK; k++) {
        const double share = share_of_term(&nfi_contraction_of(o)->options, method, k), sign = k % 2 ? 1 : -1;
        bool narrower = false;
        if (nfi_contraction_coefficients(p->ld, (nf_real)sign, share, q->u, q->c) == 0)
            break;
        if ((status = narrow(o, rows, probes, ld, q, w, &narrower)) != NF_OK)
            break;
        if (narrower)
            nfi_contraction_coefficients(p->ld, (nf_real)sign, share, q->u, q->c);
        for (size_t j = 1; j < probes; j++)
            memcpy(q->c + j * p->ld, q->c, p->ld * sizeof *q->c);
        nfi_contraction_add(dim, probes * p->ld, q->c, q->power, q->w);
        const nf_pass inner = nfi_contraction_pass(o, p, NULL);
        status = nf_net_tangent(nf_child(o, 0), &inner, q->x, q->at.g, q->at.net, probes, q->power, q->next, NULL);
        nfi_contraction_term(dim, probes * p->ld, 1 / ((double)k * (double)probes), q->c, q->v, q->next, q->term);
        for (size_t j = 0; j < probes; j++)
            for (size_t s = 0; s < p->n; s++)
                sum[j * ld + (q->tile.column ? q->tile.column[s] : s)] += q->term[j * p->ld + s];
        nf_real *former = q->power;
        q->power = q->next;
        q->next = former;
    }
    if (q->w != w)
        nfi_narrow_put(&q->tile, rows, q->w, ld, w);
    return status;
}

nf_status nfi_contraction_estimate(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_det,
                                   nfi_contraction_saved *q)
{
    const size_t probes = nfi_contraction_method(o, p)->directions, rows = nf_object_shape(o)->dim_in * probes;
    const size_t ld = p->ld;
    q->v = nf_arena_reals(nfi_saving_arena(p), rows, ld);
    q->w = nf_arena_reals(nfi_saving_arena(p), rows, ld);
    const nf_mark mark = nf_arena_mark(p->scratch);
    series all = {.tile = nfi_narrow_none(p), .x = x, .at = *q, .v = q->v, .w = q->w};
    all.power = nf_arena_reals(p->scratch, rows, ld);
    double *sum = nfi_zero_doubles(p->scratch, probes * ld);
    const bool room = q->v && q->w && all.power && sum && make_room(rows, probes, &all);
    nf_status status = room ? draw(p, rows, q->v, &all.u) : NF_ENOMEM;
    if (status == NF_OK) {
        memcpy(all.power, q->v, rows * ld * sizeof *q->v);
        memset(q->w, 0, rows * ld * sizeof *q->w);
        status = run(o, ld, &all, sum, q->w);
    }
    for (size_t i = 0; status == NF_OK && i < probes * ld; i++)
        log_det[i % ld] += sum[i];
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_contraction_estimate_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                                       const nf_real *g_log_det, nf_real *gdy, nf_real **dy, void **tangent)
{
    const size_t probes = nfi_contraction_method(o, p)->directions, rows = nf_object_shape(o)->dim_in * probes;
    const size_t ld = p->ld;
    for (size_t i = 0; i < rows; i++)
        nfi_contraction_scale(1, ld, 1 / (nf_real)probes, g_log_det, q->v + i * ld, gdy + i * ld);
    *dy = nf_arena_reals(p->scratch, rows, ld);
    const nf_pass inner = nfi_contraction_pass(o, p, p->scratch);
    return *dy ? nf_net_tangent(nf_child(o, 0), &inner, x, q->g, q->net, probes, q->w, *dy, tangent) : NF_ENOMEM;
}
