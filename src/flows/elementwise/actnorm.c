/* Activation normalisation (Kingma & Dhariwal 2018, sec. 3.1): an affine flow next to data. The mean M and the
   logarithm S of the deviation of the initial batch stay in `state`; theta is the affine flow of the standardised data
   u:

       data on the target's side (the batch went inverse):   u = x exp(s) + m,        y = u exp(S) + M,
       data on the base's side (the batch went forward):     u = (x - M) exp(-S),     y = u exp(s) + m.

   So theta is 0 after the initial batch, and a step of training moves it by as much in every unit of the data. (With
   one scale and one shift as in the paper, a step of 0.001 is 1000 deviations of data whose deviation is 1e-6.)

   A feature whose deviation is not above the rounding of its numbers (a constant column, a batch of one sample) has
   S = 0, it is only centred: to divide by it would magnify rounding, or give infinities. Without a batch M = S = 0, and
   the flow starts as the identity. state: M [dim], S [dim], and 1 if the data are on the base's side, else 0.

   Older model files have no field "relative": their layer has no state and is the affine flow alone. Saved again, and
   as text, it says "relative": false. */
#include "flows/elementwise/affine.h"
#include "flows/compose.h"
#include "flows/moments.h"
#include "flows/param.h"
#include "flows/types.h"
#include <math.h>
#include <string.h>

static bool is_relative(const nf_object *o)
{
    return nf_object_shape(o)->n_state != 0;
}

/* The two maps in the order in which direction d takes them. */
typedef struct steps {
    bool at_base; /* the data are on the base's side */
    bool affine_is_first;
    nf_direction to; /* the direction of the map y = u exp(S) + M */
} steps;

static steps steps_of(const nf_object *o, nf_direction d, const nf_pass *p)
{
    const bool at_base = p->state[2 * nf_object_shape(o)->dim_in] != 0;
    return (steps){
        .at_base = at_base, .affine_is_first = (d == NF_FORWARD) != at_base, .to = at_base ? nfi_opposite(d) : d};
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    if (!is_relative(o))
        return nfi_affine_apply(o, d, p, x, y, log_det, saved);
    const steps step = steps_of(o, d, p);
    const size_t dim = nf_object_shape(o)->dim_in;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *between = nf_arena_reals(p->scratch, dim, p->ld);
    if (!between)
        return NF_ENOMEM;
    if (step.affine_is_first) {
        nfi_affine_map(0, d, dim, p->ld, p->theta, x, between, log_det);
        nfi_affine_map(0, step.to, dim, p->ld, p->state, between, y, log_det);
    } else {
        nfi_affine_map(0, step.to, dim, p->ld, p->state, x, between, log_det);
        nfi_affine_map(0, d, dim, p->ld, p->theta, between, y, log_det);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* What is on the base's side of the affine flow: x or y, or where the data are there, these standardised. NULL if there
   is no memory. */
static const nf_real *base_of_affine(const steps *step, const nf_pass *p, size_t dim, const nf_real *on_base)
{
    if (!step->at_base)
        return on_base;
    nf_real *u = nf_arena_reals(p->scratch, dim, p->ld);
    double *unused = nf_arena_alloc(p->scratch, p->ld * sizeof *unused);
    if (!u || !unused)
        return NULL;
    memset(unused, 0, p->ld * sizeof *unused);
    nfi_affine_map(0, NF_INVERSE, dim, p->ld, p->state, on_base, u, unused);
    return u;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    if (!is_relative(o))
        return nfi_affine_vjp(o, d, p, x, y, saved, gy, g_log_det, gx, g);
    const steps step = steps_of(o, d, p);
    const size_t dim = nf_object_shape(o)->dim_in;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *between = nf_arena_reals(p->scratch, dim, p->ld);
    const nf_real *base = g->theta ? base_of_affine(&step, p, dim, d == NF_FORWARD ? x : y) : x;
    if (!between || !base)
        return NF_ENOMEM;
    const nf_real *g_in = between, *g_out = gy; /* the affine flow's cotangents */
    if (step.affine_is_first) {
        nfi_affine_scale(0, step.to, dim, p->ld, p->state, gy, between);
        nfi_affine_scale(0, d, dim, p->ld, p->theta, between, gx);
        g_in = gx, g_out = between;
    } else {
        nfi_affine_scale(0, d, dim, p->ld, p->theta, gy, between);
        nfi_affine_scale(0, step.to, dim, p->ld, p->state, between, gx);
    }
    if (g->theta)
        nfi_affine_add_gradient(0, d, dim, p->ld, base, g_out, g_in, g_log_det, g->theta);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_grad none = {.theta = NULL}; /* the Jacobian is diagonal: J^-T is J^T of the other direction */
    return vjp(o, nfi_opposite(d), p, y, x, saved, gx, NULL, gy, &none);
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)noise;
    const size_t dim = nf_object_shape(o)->dim_in;
    const bool at_base = batch && batch->direction == NF_FORWARD;
    for (size_t i = 0; batch && i < dim; i++) {
        const nfi_moments at = nfi_row_moments(batch->n, batch->x + i * batch->ld);
        const double sd = sqrt(at.variance);
        const double log_sd = sd > 4 * (double)NFI_EPSILON * at.largest ? log(sd) : 0;
        if (!isfinite((nf_real)at.mean) || !isfinite(at.variance))
            return nf_error(NF_ENOTFINITE, "nf_actnorm: feature %zu of the initial batch has mean %g and variance %g",
                            i, at.mean, at.variance);
        if (is_relative(o)) {
            state[i] = (nf_real)at.mean;
            state[dim + i] = (nf_real)log_sd;
        } else {
            theta[i] = (nf_real)(at_base ? -at.mean * exp(-log_sd) : at.mean);
            theta[dim + i] = (nf_real)(at_base ? -log_sd : log_sd);
        }
    }
    if (is_relative(o))
        state[2 * dim] = at_base;
    return NF_OK;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    return nf_write_bool(w, "relative", is_relative(o));
}

static nf_flow *make(size_t dim, bool relative)
{
    if (dim == 0 || dim > SIZE_MAX / 2 - 1) {
        nf_error(NF_EARG, "nf_actnorm: `dim` is %zu", dim);
        return NULL;
    }
    const nf_shape own = {.dim_in = dim,
                          .dim_out = dim,
                          .n_params = 2 * dim,
                          .n_state = relative ? 2 * dim + 1 : 0,
                          .flags = NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_actnorm_type, &own, NULL, NULL, 0);
}

static nf_flow *rebuild(nf_reader *r)
{
    bool relative = !nf_read_is_file(r);
    if (nf_read_has(r, "relative") && nf_read_bool(r, "relative", &relative) != NF_OK)
        return NULL;
    return make(nf_read_dim_in(r), relative);
}

const nf_flow_type nfi_actnorm_type = {
    .part = {.name = "actnorm", .init = init, .describe = describe, .slices = nfi_affine_slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_actnorm(size_t dim)
{
    return make(dim, true);
}
