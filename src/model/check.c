/* nf_check_flow: makes a copy of the model, draws points and directions at random, measures both directions
   (check_measure.c), and writes a report. The inverse is measured at the images of the forward direction's points. */
#include "model/check.h"
#include "base/memory.h"
#include "model/batch.h"
#include "flows/compose.h"
#include <math.h>
#include <string.h>

#ifdef NF_SINGLE
static const double default_radius = 1e-2;
#else
static const double default_radius = 1e-5;
#endif
enum { DEFAULT_POINTS = 16 };
/* The sites of what is drawn. */
enum { POINTS, CONTEXT, THETA, COTANGENT, COTANGENT_LOG_DET, ALONG_X, ALONG_CTX, ALONG_THETA, COTANGENT_PENALTY };

static nf_real *draw(nfi_check *c, uint32_t site, size_t count, double scale)
{
    nf_real *v = nf_arena_reals(&c->memory, 1, count ? count : 1);
    const nf_noise noise = {.seed = c->seed, .site = site};
    if (v && count)
        nf_noise_normal(&noise, count, 1, 1, v);
    for (size_t i = 0; v && i < count; i++)
        v[i] = (nf_real)(scale * (double)v[i]);
    return v;
}

/* Draws rows of unit length. */
static nf_real *draw_directions(nfi_check *c, uint32_t site, size_t rows, size_t dim)
{
    nf_real *v = draw(c, site, rows * dim, 1);
    for (size_t s = 0; v && s < rows; s++) {
        double norm = 0;
        for (size_t i = 0; i < dim; i++)
            norm += (double)v[s * dim + i] * (double)v[s * dim + i];
        for (size_t i = 0; i < dim; i++)
            v[s * dim + i] = (nf_real)((double)v[s * dim + i] / sqrt(norm));
    }
    return v;
}

static nf_status make_side(nfi_check *c, const nf_object *flow, nf_direction d, nfi_side *f)
{
    nf_arena *a = &c->memory;
    *f = (nfi_side){.d = d, .in = nfi_rows_in(flow, d), .out = nfi_rows_out(flow, d)};
    f->y = nf_arena_reals(a, c->n, f->out);
    f->gx = nf_arena_reals(a, c->n, f->in);
    f->g_ctx = nf_arena_reals(a, c->n, c->n_ctx + 1);
    f->g_theta = nf_arena_reals(a, 1, c->n_params + 1);
    f->gy = draw(c, COTANGENT, c->n * f->out, 1);
    f->g_l = draw(c, COTANGENT_LOG_DET, c->n, 1);
    f->g_penalty = draw(c, COTANGENT_PENALTY, c->n, 1);
    f->log_det = nf_arena_alloc(a, 2 * c->n * sizeof *f->log_det);
    f->penalty = f->log_det ? f->log_det + c->n : NULL;
    f->along_x = draw_directions(c, ALONG_X, c->n, f->in);
    f->along_ctx = draw_directions(c, ALONG_CTX, c->n, c->n_ctx);
    f->along_theta = draw_directions(c, ALONG_THETA, 1, c->n_params);
    return f->y && f->gx && f->g_ctx && f->g_theta && f->gy && f->g_l && f->g_penalty && f->log_det && f->along_x &&
                   f->along_ctx && f->along_theta
               ? NF_OK
               : NF_ENOMEM;
}

/* Measures one direction. If the flow refuses that direction, its NaNs stay in the report. */
static nf_status check_direction(nfi_check *c, nfi_side *f, nf_check_report *r, bool count, bool *supported)
{
    nf_status status = nfi_transform(c->m, c->ws, &c->noise, f->d, c->n, f->x, c->ctx, f->y, f->log_det, f->penalty);
    *supported = status == NF_OK;
    if (status != NF_OK)
        return status == NF_EUNSUPPORTED ? NF_OK : status;
    r->log_det_min[f->d] = r->log_det_max[f->d] = f->log_det[0];
    for (size_t s = 0; s < c->n; s++) {
        r->log_det_min[f->d] = fmin(r->log_det_min[f->d], f->log_det[s]);
        r->log_det_max[f->d] = fmax(r->log_det_max[f->d], f->log_det[s]);
    }
    status = nfi_check_round_trip(c, f, &r->inverse_error[f->d]);
    if (status == NF_OK)
        status = nfi_check_jacobian(c, f, r, count);
    if (status == NF_OK)
        status = nfi_check_gradients(c, f, r);
    return status == NF_EUNSUPPORTED ? NF_OK : status;
}

static nf_status run(nfi_check *c, const nf_object *flow, const nf_check_options *o, nf_check_report *r)
{
    nfi_side f, b;
    bool supported = false;
    const double scale = o->scale == 0 ? 1 : fmax(o->scale, 0);
    const nf_real *shift = draw(c, THETA, c->n_params, o->theta_scale);
    c->ctx = draw(c, CONTEXT, c->n * c->n_ctx, 1);
    nf_status status = make_side(c, flow, NF_FORWARD, &f);
    if (status == NF_OK)
        status = make_side(c, flow, NF_INVERSE, &b);
    if (status == NF_OK && (!shift || !c->ctx || !(f.x = draw(c, POINTS, c->n * f.in, scale))))
        status = NF_ENOMEM;
    for (size_t i = 0; i < c->n_params && status == NF_OK; i++)
        c->m->theta[i] += shift[i];
    if (status == NF_OK)
        status = nf_model_update(c->m, NF_EVAL);
    if (status == NF_OK)
        status = check_direction(c, &f, r, true, &supported);
    if (status != NF_OK)
        return status;
    /* The inverse starts at the images of the points, since it is defined there. */
    b.x = supported ? f.y : draw(c, POINTS, c->n * b.in, scale);
    return b.x ? check_direction(c, &b, r, !supported, &supported) : NF_ENOMEM;
}

static nf_model *copy_model(const nf_model *m, nf_arena *a)
{
    const nf_shape *s = nf_model_shape(m);
    nf_real *theta = nf_arena_reals(a, 1, s->n_params + 1), *state = nf_arena_reals(a, 1, s->n_state + 1);
    if (!theta || !state)
        return NULL;
    memcpy(theta, m->theta, s->n_params * sizeof *theta);
    memcpy(state, m->state, s->n_state * sizeof *state);
    return nfi_model_bind(nf_object_ref(m->o), &(nf_model_options){.theta = theta, .state = state}, "nf_check_flow",
                          "o");
}

nf_status nf_check_flow(const nf_model *m, const nf_check_options *options, nf_check_report *report)
{
    static const nf_check_options none;
    nf_pass root = {.ld = 1};
    if (!m || !report)
        return nf_error(NF_EARG, "nf_check_flow: `%s` is NULL", m ? "report" : "m");
    const nf_object *flow = nfi_model_flow(m, &root);
    if (!flow)
        return nf_error(NF_EARG, "nf_check_flow: a model of a %s has no flow", nf_object_name(m->o));
    nf_status status = nfi_check_ready(m, "nf_check_flow");
    if (status != NF_OK)
        return status;
    options = options ? options : &none;
    nf_check_report r = {.untouched = 0};
    for (int d = 0; d < 2; d++)
        r.inverse_error[d] = r.log_det_error[d] = r.x_error[d] = r.theta_error[d] = r.ctx_error[d] =
            r.penalty_error[d] = r.log_det_min[d] = r.log_det_max[d] = NAN;
    nfi_check c = {.n = options->n ? options->n : DEFAULT_POINTS,
                   .n_ctx = flow->total.n_ctx,
                   .n_params = m->o->total.n_params,
                   .seed = options->seed,
                   .noise = {.seed = options->seed, .step = 1},
                   .radius = options->radius > 0 ? options->radius : default_radius};
    c.ws = nf_workspace_new(1);
    c.m = copy_model(m, &c.memory);
    status = c.ws && c.m ? run(&c, flow, options, &r) : nf_error_status();
    nf_model_free(c.m);
    nf_workspace_free(c.ws);
    nfi_arena_clear(&c.memory);
    if (status == NF_OK)
        *report = r;
    return status;
}
