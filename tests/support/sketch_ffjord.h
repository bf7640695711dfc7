/* A continuous flow as a user may write it, by the public headers alone: what nf_net_tangent and its product are for.

   FFJORD (Grathwohl et al. 2019): dz/dt = f(z, t), t from 0 to 1, and d(log-det)/dt = tr(df/dz), here by fixed steps of
   the classical Runge-Kutta method, whose stages i = 0 .. 3 have k_i = f(z + h a_i k_(i-1), t + h a_i) and z moves by
   h sum b_i k_i. The trace is sum over j of w <e_j, J e_j>: exact with the dim unit vectors and w = 1, Hutchinson's
   estimate with random signs and w = 1 / probes, the same during the whole solve. The inverse goes from 1 to 0. The
   gradient is that of the steps themselves, backwards. */
#ifndef SKETCH_FFJORD_H
#define SKETCH_FFJORD_H
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

typedef struct ffjord {
    size_t steps, probes; /* probes 0: the exact trace */
} ffjord;

static const nf_real a[4] = {0, NF_R(0.5), NF_R(0.5), 1},
                     b[4] = {NF_R(1. / 6), NF_R(1. / 3), NF_R(1. / 3), NF_R(1. / 6)};

/* One evaluation: u = (z, t) [dim + 1 x ld], y = f(u) [dim x ld], dy = J e [dim x k ld]. */
typedef struct stage {
    nf_real *u, *y, *dy;
    void *saved, *saved_tangent;
} stage;
typedef struct record {
    nf_real *e; /* [dim + 1 x k ld], the directions; that of time is 0 */
    stage stage[];
} record;

static size_t n_directions(const nf_object *o)
{
    const ffjord *f = nf_self(o);
    return f->probes ? f->probes : nf_object_shape(o)->dim_in;
}
/* The length of a step, with its sign, and a direction's weight. */
static nf_real step_of(const nf_object *o, nf_direction d, nf_real *w)
{
    const ffjord *f = nf_self(o);
    *w = 1 / (nf_real)(f->probes ? f->probes : 1);
    return (d == NF_FORWARD ? NF_R(1) : NF_R(-1)) / (nf_real)f->steps;
}

static void draw_directions(const nf_object *o, const nf_pass *p, nf_real *e)
{
    const ffjord *f = nf_self(o);
    const size_t k = n_directions(o), dim = nf_object_shape(o)->dim_in, ld = p->ld;
    memset(e, 0, (dim + 1) * k * ld * sizeof *e);
    if (f->probes)
        nf_noise_uniform(&p->noise, dim * k, p->n, ld, e);
    for (size_t i = 0; i < dim * k * ld; i++)
        e[i] = NF_R(f->probes ? (e[i] < NF_R(0.5) ? -1 : 1) : i / (k * ld) == i / ld % k);
}

/* Stage s at z + move k, k [dim x ld], and time t; log_det += weight tr J. Where there is no tape, scratch is one. */
static nf_status evaluate(const nf_object *o, const nf_pass *p, const record *r, const nf_real *z, nf_real move,
                          const nf_real *k_before, nf_real t, double weight, stage *s, double *log_det)
{
    const size_t k = n_directions(o), dim = nf_object_shape(o)->dim_in, ld = p->ld, size = dim * ld;
    nf_pass q = nf_child_pass(o, 0, p);
    q.tape = p->tape ? p->tape : p->scratch;
    *s = (stage){.u = nf_arena_reals(q.tape, dim + 1, ld),
                 .y = nf_arena_reals(q.tape, dim, ld),
                 .dy = nf_arena_reals(q.tape, dim * k, ld)};
    if (!s->u || !s->y || !s->dy)
        return NF_ENOMEM;
    for (size_t j = 0; j < size + ld; j++)
        s->u[j] = j >= size ? t : z[j] + (k_before ? move * k_before[j] : 0);
    nf_status status = nf_net_apply(nf_child(o, 0), &q, s->u, s->y, &s->saved);
    q.tape = p->tape;
    if (status == NF_OK)
        status = nf_net_tangent(nf_child(o, 0), &q, s->u, s->y, s->saved, k, r->e, s->dy, &s->saved_tangent);
    for (size_t i = 0; i < k * size && status == NF_OK; i++)
        log_det[i % ld] += weight * (double)r->e[i] * (double)s->dy[i];
    return status;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const ffjord *f = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld, size = dim * ld;
    nf_real w, h = step_of(o, d, &w), t = d == NF_FORWARD ? 0 : 1;
    const nf_mark begin = nf_arena_mark(p->scratch);
    nf_arena *memory = p->tape ? p->tape : p->scratch;
    record *r = nf_arena_alloc(memory, sizeof *r + 4 * (p->tape ? f->steps : 1) * sizeof *r->stage);
    nf_status status = r && (r->e = nf_arena_reals(memory, (dim + 1) * n_directions(o), ld)) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        draw_directions(o, p, r->e);
    memcpy(y, x, size * sizeof *y);
    for (size_t n = 0; n < f->steps && status == NF_OK; n++, t += h) {
        const nf_mark mark = nf_arena_mark(p->scratch);
        stage *s = r->stage + (p->tape ? 4 * n : 0);
        for (int i = 0; i < 4 && status == NF_OK; i++)
            status = evaluate(o, p, r, y, a[i] * h, i ? s[i - 1].y : NULL, t + a[i] * h, (double)(h * b[i] * w), &s[i],
                              log_det);
        for (size_t j = 0; j < size && status == NF_OK; j++)
            y[j] += h * (b[0] * s[0].y[j] + b[1] * s[1].y[j] + b[2] * s[2].y[j] + b[3] * s[3].y[j]);
        if (!p->tape)
            nf_arena_rewind(p->scratch, mark);
    }
    if (p->tape)
        *saved = r;
    else
        nf_arena_rewind(p->scratch, begin);
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y;
    const record *r = saved;
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld, size = dim * ld, k = n_directions(o);
    nf_real w, h = step_of(o, d, &w);
    const nf_pass q = nf_child_pass(o, 0, p);
    const nf_grad g_net = nf_child_grad(o, 0, p, g);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *after = nf_arena_reals(p->scratch, dim, ld), *gk = nf_arena_reals(p->scratch, dim, ld);
    nf_real *gdy = nf_arena_reals(p->scratch, dim * k, ld), *gu = nf_arena_reals(p->scratch, dim + 1, ld);
    nf_status status = after && gk && gdy && gu ? NF_OK : NF_ENOMEM;
    memcpy(gx, gy, size * sizeof *gx); /* the gradient of z, step by step */
    for (size_t n = ((const ffjord *)nf_self(o))->steps; n-- > 0 && status == NF_OK;) {
        memcpy(after, gx, size * sizeof *gx);
        for (int i = 3; i >= 0 && status == NF_OK; i--) {
            const stage *s = &r->stage[4 * n + (size_t)i];
            for (size_t j = 0; j < size; j++)
                gk[j] = h * b[i] * after[j] + (i < 3 ? h * a[i + 1] * gu[j] : 0);
            for (size_t j = 0; j < size * k; j++)
                gdy[j] = h * b[i] * w * g_log_det[j % ld] * r->e[j];
            status = nf_net_tangent_vjp(nf_child(o, 0), &q, s->u, s->y, s->saved, k, r->e, s->dy, s->saved_tangent, gk,
                                        gdy, gu, NULL, &g_net);
            for (size_t j = 0; j < size && status == NF_OK; j++)
                gx[j] += gu[j];
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static const nf_flow_type ffjord_type = {
    .part = {.name = "sketch_ffjord", .destroy = free}, .abi = sizeof ffjord_type, .apply = apply, .vjp = vjp};

static inline nf_flow *new_ffjord(size_t dim, size_t n_ctx, size_t steps, size_t probes, nf_net *net)
{
    ffjord *f = malloc(sizeof *f);
    *f = (ffjord){.steps = steps, .probes = probes};
    const nf_shape shape = {.dim_in = dim, .dim_out = dim, .n_ctx = n_ctx, .flags = probes ? NF_STOCHASTIC : 0};
    return nf_flow_new(&ffjord_type, &shape, f, (nf_object *[]){nf_net_object(net)}, 1);
}

#endif
