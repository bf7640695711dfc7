/* nf_check_flow: round trips, log-dets against the dense Jacobian, and VJPs against central differences.

   With cotangents gy, g_l drawn at random let L(x, theta, ctx) = <gy, y> + g_l log_det. Along a unit vector v

       <dL/d., v> ~ (L(. + h v) - L(. - h v)) / 2h,   error |left - right| / (1 + |left|),

   point by point in x and context, summed over points in theta. Row i of the Jacobian is the VJP of gy = e_i. */
#include "core/memory.h"
#include "core/model.h"
#include "flows/compose.h"
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <nflow/check.h>
#include <string.h>

#ifdef NF_SINGLE
static const double default_radius = 1e-2;
#else
static const double default_radius = 1e-5;
#endif
enum { DEFAULT_POINTS = 16 };
enum { POINTS, CONTEXT, THETA, COTANGENT, COTANGENT_LOG_DET, ALONG_X, ALONG_CTX, ALONG_THETA, N_DRAWS }; /* sites */

/* The run: a copy of the model whose theta may be moved, and where its numbers come from. */
typedef struct check {
    nf_model *m;
    nf_workspace *ws;
    nf_arena memory;
    size_t n, n_ctx, n_params;
    uint64_t seed;
    double radius;
    nf_real *ctx;
} check;

/* One direction: points, images, cotangents, gradients; row-major. */
typedef struct side {
    nf_direction d;
    size_t in, out;
    nf_real *x, *y, *gy, *g_l, *gx, *g_ctx, *g_theta;
    double *log_det;
} side;

static nf_real *draw(check *c, uint32_t site, size_t count, double scale)
{
    nf_real *v = nf_arena_reals(&c->memory, 1, count ? count : 1);
    const nf_noise noise = {.seed = c->seed, .site = site};
    if (v && count)
        nf_noise_normal(&noise, count, 1, 1, v);
    for (size_t i = 0; v && i < count; i++)
        v[i] = (nf_real)(scale * (double)v[i]);
    return v;
}

/* Rows of unit length. */
static nf_real *draw_directions(check *c, uint32_t site, size_t rows, size_t dim)
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

static double worst(double a, double b)
{
    return isnan(b) || b > a ? b : a;
}

/* ---- round trip ---- */

static nf_status round_trip(check *c, const side *f, double *error)
{
    nf_real *back = nf_arena_reals(&c->memory, c->n, f->in);
    if (!back)
        return NF_ENOMEM;
    nf_status status = nf_transform(c->m, c->ws, nfi_opposite(f->d), c->n, f->y, c->ctx, back, NULL);
    if (status != NF_OK)
        return status == NF_EUNSUPPORTED ? NF_OK : status;
    *error = 0;
    for (size_t s = 0; s < c->n; s++) {
        double norm = 0, off = 0;
        for (size_t i = s * f->in; i < (s + 1) * f->in; i++) {
            norm += (double)f->x[i] * (double)f->x[i];
            off += ((double)back[i] - (double)f->x[i]) * ((double)back[i] - (double)f->x[i]);
        }
        *error = worst(*error, sqrt(off) / (1 + sqrt(norm)));
    }
    return NF_OK;
}

/* ---- the dense Jacobian ---- */

/* J [n x out x in] */
static nf_status jacobian(check *c, const side *f, double **jacobian)
{
    nf_real *unit = nf_arena_reals(&c->memory, c->n, f->out), *row = nf_arena_reals(&c->memory, c->n, f->in);
    double *J = nf_arena_alloc(&c->memory, c->n * f->out * f->in * sizeof *J);
    if (!unit || !row || !J)
        return NF_ENOMEM;
    for (size_t i = 0; i < f->out; i++) {
        for (size_t k = 0; k < c->n * f->out; k++)
            unit[k] = k % f->out == i;
        nf_status status = nf_transform_vjp(c->m, c->ws, f->d, c->n, f->x, c->ctx, unit, NULL, row, NULL, NULL);
        if (status != NF_OK)
            return status;
        for (size_t s = 0; s < c->n; s++)
            for (size_t k = 0; k < f->in; k++)
                J[(s * f->out + i) * f->in + k] = (double)row[s * f->in + k];
    }
    *jacobian = J;
    return NF_OK;
}

/* log |det J| by Householder QR, which allocates nothing; J [dim x dim] is overwritten. tau [dim] */
static double log_abs_det(double *J, double *tau, size_t dim)
{
    gsl_matrix_view A = gsl_matrix_view_array(J, dim, dim);
    gsl_vector_view t = gsl_vector_view_array(tau, dim);
    gsl_linalg_QR_decomp(&A.matrix, &t.vector);
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += log(fabs(J[i * dim + i]));
    return sum;
}

/* Whether row `to` of y is row `from` of x at every point, and its row of the Jacobian a unit vector. */
static bool is_copy(const check *c, const side *f, const double *J, size_t from, size_t to)
{
    for (size_t s = 0; s < c->n; s++) {
        const double *row = J + (s * f->out + to) * f->in;
        if (f->x[s * f->in + from] != f->y[s * f->out + to])
            return false;
        for (size_t k = 0; k < f->in; k++)
            if (fabs(row[k] - (k == from ? 1 : 0)) > 0)
                return false;
    }
    return true;
}

static size_t count_untouched(const check *c, const side *f, const double *J)
{
    size_t count = 0;
    for (size_t to = 0; to < f->out; to++) {
        size_t from = 0;
        while (from < f->in && !is_copy(c, f, J, from, to))
            from++;
        count += from < f->in;
    }
    return count;
}

static nf_status check_jacobian(check *c, const side *f, nf_check_report *r, bool count)
{
    if (f->in != f->out)
        return NF_OK;
    double *J = NULL, *tau = nf_arena_alloc(&c->memory, f->in * sizeof *tau);
    nf_status status = tau ? jacobian(c, f, &J) : NF_ENOMEM;
    if (status != NF_OK)
        return status;
    if (count)
        r->untouched = count_untouched(c, f, J);
    double error = 0;
    for (size_t s = 0; s < c->n; s++)
        error = worst(error, fabs(f->log_det[s] - log_abs_det(J + s * f->in * f->in, tau, f->in)));
    r->log_det_error[f->d] = error;
    return NF_OK;
}

/* ---- gradients ---- */

/* loss[s] = <gy, y> + g_l log_det at (x, ctx). */
static nf_status losses(check *c, const side *f, const nf_real *x, const nf_real *ctx, double *loss)
{
    const nf_mark mark = nf_arena_mark(&c->memory);
    nf_real *y = nf_arena_reals(&c->memory, c->n, f->out);
    if (!y)
        return NF_ENOMEM;
    nf_status status = nf_transform(c->m, c->ws, f->d, c->n, x, ctx, y, loss);
    for (size_t s = 0; s < c->n && status == NF_OK; s++) {
        loss[s] *= (double)f->g_l[s];
        for (size_t i = s * f->out; i < (s + 1) * f->out; i++)
            loss[s] += (double)f->gy[i] * (double)y[i];
    }
    nf_arena_rewind(&c->memory, mark);
    return status;
}

/* What the difference is taken in: x, context or theta, `rows` independent rows of `dim`. */
typedef struct variable {
    nf_real *value, *gradient, *direction;
    size_t rows, dim;
} variable;

/* Moves v to base + step direction and evaluates; theta needs preparing. */
static nf_status losses_at(check *c, const side *f, const variable *v, const nf_real *base, double step, double *loss)
{
    for (size_t i = 0; i < v->rows * v->dim; i++)
        v->value[i] = (nf_real)((double)base[i] + step * (double)v->direction[i]);
    nf_status status = v->value == c->m->theta ? nf_model_update(c->m, NF_EVAL) : NF_OK;
    return status == NF_OK ? losses(c, f, f->x, c->ctx, loss) : status;
}

static nf_status compare(check *c, const side *f, const variable *v, double *error)
{
    const size_t size = v->rows * v->dim;
    nf_real *base = nf_arena_reals(&c->memory, 1, size);
    double *up = nf_arena_alloc(&c->memory, c->n * sizeof *up), *down = nf_arena_alloc(&c->memory, c->n * sizeof *down);
    if (!base || !up || !down || !v->direction)
        return NF_ENOMEM;
    memcpy(base, v->value, size * sizeof *base);
    nf_status status = losses_at(c, f, v, base, c->radius, up);
    if (status == NF_OK)
        status = losses_at(c, f, v, base, -c->radius, down);
    memcpy(v->value, base, size * sizeof *base);
    if (status == NF_OK && v->value == c->m->theta)
        status = nf_model_update(c->m, NF_EVAL);
    *error = 0;
    for (size_t row = 0; row < v->rows && status == NF_OK; row++) {
        double exact = 0, difference = 0;
        for (size_t i = row * v->dim; i < (row + 1) * v->dim; i++)
            exact += (double)v->gradient[i] * (double)v->direction[i];
        for (size_t s = 0; s < c->n; s++) /* one row of theta belongs to all points */
            difference += v->rows == 1 || s == row ? (up[s] - down[s]) / (2 * c->radius) : 0;
        *error = worst(*error, fabs(exact - difference) / (1 + fabs(exact)));
    }
    return status;
}

static nf_status check_gradients(check *c, const side *f, nf_check_report *r)
{
    const variable x = {f->x, f->gx, draw_directions(c, ALONG_X, c->n, f->in), c->n, f->in};
    const variable ctx = {c->ctx, f->g_ctx, draw_directions(c, ALONG_CTX, c->n, c->n_ctx), c->n, c->n_ctx};
    const variable theta = {c->m->theta, f->g_theta, draw_directions(c, ALONG_THETA, 1, c->n_params), 1, c->n_params};
    memset(f->g_theta, 0, c->n_params * sizeof *f->g_theta);
    nf_status status =
        nf_transform_vjp(c->m, c->ws, f->d, c->n, f->x, c->ctx, f->gy, f->g_l, f->gx, f->g_ctx, f->g_theta);
    if (status == NF_OK)
        status = compare(c, f, &x, &r->x_error[f->d]);
    if (status == NF_OK)
        status = compare(c, f, &ctx, &r->ctx_error[f->d]);
    if (status == NF_OK)
        status = compare(c, f, &theta, &r->theta_error[f->d]);
    return status;
}

/* ---- the run ---- */

static nf_status make_side(check *c, const nf_object *flow, nf_direction d, side *f)
{
    nf_arena *a = &c->memory;
    *f = (side){.d = d, .in = nfi_rows_in(flow, d), .out = nfi_rows_out(flow, d)};
    f->y = nf_arena_reals(a, c->n, f->out);
    f->gx = nf_arena_reals(a, c->n, f->in);
    f->g_ctx = nf_arena_reals(a, c->n, c->n_ctx + 1);
    f->g_theta = nf_arena_reals(a, 1, c->n_params + 1);
    f->gy = draw(c, COTANGENT, c->n * f->out, 1);
    f->g_l = draw(c, COTANGENT_LOG_DET, c->n, 1);
    f->log_det = nf_arena_alloc(a, c->n * sizeof *f->log_det);
    return f->y && f->gx && f->g_ctx && f->g_theta && f->gy && f->g_l && f->log_det ? NF_OK : NF_ENOMEM;
}

/* A direction that is refused leaves its NaNs. */
static nf_status check_direction(check *c, side *f, nf_check_report *r, bool count, bool *supported)
{
    nf_status status = nf_transform(c->m, c->ws, f->d, c->n, f->x, c->ctx, f->y, f->log_det);
    *supported = status == NF_OK;
    if (status != NF_OK)
        return status == NF_EUNSUPPORTED ? NF_OK : status;
    r->log_det_min[f->d] = r->log_det_max[f->d] = f->log_det[0];
    for (size_t s = 0; s < c->n; s++) {
        r->log_det_min[f->d] = fmin(r->log_det_min[f->d], f->log_det[s]);
        r->log_det_max[f->d] = fmax(r->log_det_max[f->d], f->log_det[s]);
    }
    status = round_trip(c, f, &r->inverse_error[f->d]);
    if (status == NF_OK)
        status = check_jacobian(c, f, r, count);
    if (status == NF_OK)
        status = check_gradients(c, f, r);
    return status == NF_EUNSUPPORTED ? NF_OK : status;
}

static nf_status run(check *c, const nf_object *flow, const nf_check_options *o, nf_check_report *r)
{
    side f, b;
    bool supported = false;
    const double scale = o->scale > 0 ? o->scale : 1;
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
    /* Images of the points: they lie where the inverse is defined. */
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
    return nfi_model_bind(nf_object_ref(m->o), &(nf_model_options){.theta = theta, .state = state}, "nf_check_flow");
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
    options = options ? options : &none;
    nf_check_report r = {.untouched = 0};
    for (int d = 0; d < 2; d++)
        r.inverse_error[d] = r.log_det_error[d] = r.x_error[d] = r.theta_error[d] = r.ctx_error[d] = r.log_det_min[d] =
            r.log_det_max[d] = NAN;
    check c = {.n = options->n ? options->n : DEFAULT_POINTS,
               .n_ctx = flow->total.n_ctx,
               .n_params = m->o->total.n_params,
               .seed = options->seed,
               .radius = options->radius > 0 ? options->radius : default_radius};
    c.ws = nf_workspace_new(1);
    c.m = copy_model(m, &c.memory);
    nf_status status = c.ws && c.m ? run(&c, flow, options, &r) : nf_error_status();
    nf_model_free(c.m);
    nf_workspace_free(c.ws);
    nfi_arena_clear(&c.memory);
    if (status == NF_OK)
        *report = r;
    return status;
}
