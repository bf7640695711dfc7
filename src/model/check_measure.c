/* What nf_check_flow measures: round trips, log-dets against the dense Jacobian, VJPs against central differences. With
   cotangents gy, g_l drawn at random, let L(x, theta, ctx) = <gy, y> + g_l log_det. Along a unit vector v

     <dL/d., v> ~ (8 D(h) - D(2 h)) / 12 h,   D(h) = L(. + h v) - L(. - h v),   error |left - right| / (1 + |left|).

   In x and context this is compared point by point, in theta for the sum over all points. A penalty (nf_pass.penalty)
   is compared in the same way, with L = g_penalty penalty. Row i of the Jacobian is the VJP of gy = e_i. */
#include "model/check.h"
#include "base/memory.h"
#include "model/batch.h"
#include "flows/compose.h"
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <string.h>

#ifdef NF_SINGLE
#define REACH 10. /* see choose_steps() */
#else
#define REACH 100.
#endif
enum { TENTHS = 12 };

static double worst(double a, double b)
{
    return isnan(b) || b > a ? b : a;
}

/* ---- round trip ---- */

nf_status nfi_check_round_trip(nfi_check *c, const nfi_side *f, double *error)
{
    nf_real *back = nf_arena_reals(&c->memory, c->n, f->in);
    if (!back)
        return NF_ENOMEM;
    nf_status status = nf_transform(c->m, c->ws, &c->noise, nfi_opposite(f->d), c->n, f->y, c->ctx, back, NULL);
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

/* The Jacobian J [n x out x in] of all points. */
static nf_status jacobian(nfi_check *c, const nfi_side *f, double **jacobian)
{
    nf_real *unit = nf_arena_reals(&c->memory, c->n, f->out), *row = nf_arena_reals(&c->memory, c->n, f->in);
    double *J = nf_arena_alloc(&c->memory, c->n * f->out * f->in * sizeof *J);
    if (!unit || !row || !J)
        return NF_ENOMEM;
    for (size_t i = 0; i < f->out; i++) {
        for (size_t k = 0; k < c->n * f->out; k++)
            unit[k] = k % f->out == i;
        nf_status status =
            nf_transform_vjp(c->m, c->ws, &c->noise, f->d, c->n, f->x, c->ctx, unit, NULL, row, NULL, NULL);
        if (status != NF_OK)
            return status;
        for (size_t s = 0; s < c->n; s++)
            for (size_t k = 0; k < f->in; k++)
                J[(s * f->out + i) * f->in + k] = (double)row[s * f->in + k];
    }
    *jacobian = J;
    return NF_OK;
}

/* log |det J| by Householder QR, which allocates nothing. J [dim x dim] is overwritten; tau [dim] is a temporary. */
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

/* Whether number `to` of y equals number `from` of x at every point, and row `to` of the Jacobian is the unit vector
   `from`. */
static bool is_copy(const nfi_check *c, const nfi_side *f, const double *J, size_t from, size_t to)
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

static size_t count_untouched(const nfi_check *c, const nfi_side *f, const double *J)
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

nf_status nfi_check_jacobian(nfi_check *c, const nfi_side *f, nf_check_report *r, bool count)
{
    double *J = NULL, *tau = nf_arena_alloc(&c->memory, f->in * sizeof *tau);
    nf_status status = tau ? jacobian(c, f, &J) : NF_ENOMEM;
    if (status != NF_OK)
        return status;
    if (count)
        r->untouched = count_untouched(c, f, J);
    if (f->in != f->out) /* then the log-det depends on the flow's own chart */
        return NF_OK;
    double error = 0;
    for (size_t s = 0; s < c->n; s++)
        error = worst(error, fabs(f->log_det[s] - log_abs_det(J + s * f->in * f->in, tau, f->in)));
    r->log_det_error[f->d] = error;
    return NF_OK;
}

/* ---- gradients ---- */

/* loss[s] = <gy, y> + g_l log_det, or g_penalty penalty if there is no g_l, at (x, ctx), for each point s. */
static nf_status losses(nfi_check *c, const nfi_side *f, const nf_real *x, const nf_real *ctx, double *loss)
{
    const nf_mark mark = nf_arena_mark(&c->memory);
    nf_real *y = nf_arena_reals(&c->memory, c->n, f->out);
    if (!y)
        return NF_ENOMEM;
    nf_status status =
        nfi_transform(c->m, c->ws, &c->noise, f->d, c->n, x, ctx, y, f->g_l ? loss : NULL, f->g_l ? NULL : loss);
    for (size_t s = 0; s < c->n && status == NF_OK; s++) {
        loss[s] *= (double)(f->g_l ? f->g_l : f->g_penalty)[s];
        for (size_t i = s * f->out; i < (s + 1) * f->out && f->gy; i++)
            loss[s] += (double)f->gy[i] * (double)y[i];
    }
    nf_arena_rewind(&c->memory, mark);
    return status;
}

/* The variable in which the difference is taken: x, context or theta, as `rows` independent rows of `dim` numbers. */
typedef struct variable {
    nf_real *value, *gradient, *direction;
    size_t rows, dim;
} variable;

/* Moves each row of v to base + sign step[row] direction and evaluates the losses there. If v is theta, the model is
   prepared again. */
static nf_status losses_at(nfi_check *c, const nfi_side *f, const variable *v, const nf_real *base, double sign,
                           const double *step, double *loss)
{
    for (size_t i = 0; i < v->rows * v->dim; i++)
        v->value[i] = (nf_real)((double)base[i] + sign * step[i / v->dim] * (double)v->direction[i]);
    nf_status status = v->value == c->m->theta ? nf_model_update(c->m, NF_EVAL) : NF_OK;
    return status == NF_OK ? losses(c, f, f->x, c->ctx, loss) : status;
}

/* The step of each row: the radius, or so much less that the loss is finite REACH steps away. A difference that crosses
   the edge of the flow's domain, or comes near it, would say nothing about the gradient. up, down [n] are temporary. */
static nf_status choose_steps(nfi_check *c, const nfi_side *f, const variable *v, const nf_real *base, double *step,
                              double *up, double *down)
{
    for (size_t row = 0; row < v->rows; row++)
        step[row] = c->radius;
    bool again = v->rows == c->n; /* not theta, which has no edge */
    for (int tenth = 0; tenth < TENTHS && again; tenth++) {
        again = false;
        nf_status status = losses_at(c, f, v, base, REACH, step, up);
        if (status == NF_OK)
            status = losses_at(c, f, v, base, -REACH, step, down);
        if (status != NF_OK)
            return status;
        for (size_t row = 0; row < v->rows; row++)
            if (!isfinite(up[row]) || !isfinite(down[row])) {
                step[row] /= 10;
                again = true;
            }
    }
    return NF_OK;
}

static nf_status compare(nfi_check *c, const nfi_side *f, const variable *v, double *error)
{
    const size_t size = v->rows * v->dim;
    nf_real *base = nf_arena_reals(&c->memory, 1, size);
    double *step = nf_arena_alloc(&c->memory, v->rows * sizeof *step), *loss[4];
    if (!base || !step)
        return NF_ENOMEM;
    for (int k = 0; k < 4; k++)
        if (!(loss[k] = nf_arena_alloc(&c->memory, c->n * sizeof **loss)))
            return NF_ENOMEM;
    memcpy(base, v->value, size * sizeof *base);
    static const double at[4] = {1, -1, 2, -2}, weight[4] = {8. / 12, -8. / 12, -1. / 12, 1. / 12};
    nf_status status = choose_steps(c, f, v, base, step, loss[0], loss[1]);
    for (int k = 0; k < 4 && status == NF_OK; k++)
        status = losses_at(c, f, v, base, at[k], step, loss[k]);
    memcpy(v->value, base, size * sizeof *base);
    if (status == NF_OK && v->value == c->m->theta)
        status = nf_model_update(c->m, NF_EVAL);
    *error = 0;
    for (size_t row = 0; row < v->rows && status == NF_OK; row++) {
        double exact = 0, difference = 0;
        for (size_t i = row * v->dim; i < (row + 1) * v->dim; i++)
            exact += (double)v->gradient[i] * (double)v->direction[i];
        for (size_t s = 0; s < c->n; s++) /* theta is one row, which belongs to all points */
            for (int k = 0; k < 4 && (v->rows == 1 || s == row); k++)
                difference += weight[k] * loss[k][s] / step[row];
        *error = worst(*error, fabs(exact - difference) / (1 + fabs(exact)));
    }
    return status;
}

/* The errors of one set of cotangents in x, context and theta. */
static nf_status gradients(nfi_check *c, const nfi_side *f, double *of_x, double *of_ctx, double *of_theta)
{
    const variable x = {f->x, f->gx, f->along_x, c->n, f->in};
    const variable ctx = {c->ctx, f->g_ctx, f->along_ctx, c->n, c->n_ctx};
    const variable theta = {c->m->theta, f->g_theta, f->along_theta, 1, c->n_params};
    memset(f->g_theta, 0, c->n_params * sizeof *f->g_theta);
    nf_status status = nfi_transform_vjp(c->m, c->ws, &c->noise, f->d, c->n, f->x, c->ctx, f->gy, f->g_l, f->g_penalty,
                                         f->gx, f->g_ctx, f->g_theta);
    if (status == NF_OK)
        status = compare(c, f, &x, of_x);
    if (status == NF_OK)
        status = compare(c, f, &ctx, of_ctx);
    return status == NF_OK ? compare(c, f, &theta, of_theta) : status;
}

nf_status nfi_check_gradients(nfi_check *c, const nfi_side *f, nf_check_report *r)
{
    nfi_side value = *f, penalty = *f;
    value.g_penalty = NULL;
    penalty.gy = penalty.g_l = NULL;
    nf_status status = gradients(c, &value, &r->x_error[f->d], &r->ctx_error[f->d], &r->theta_error[f->d]);
    bool none = true;
    for (size_t s = 0; s < c->n; s++)
        none = none && f->penalty[s] == 0;
    double error[3] = {0, 0, 0};
    if (status == NF_OK && !none)
        status = gradients(c, &penalty, &error[0], &error[1], &error[2]);
    if (status == NF_OK)
        r->penalty_error[f->d] = worst(error[0], worst(error[1], error[2]));
    return status;
}
