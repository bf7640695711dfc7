/* See solver.h. All samples of a tile try a step at the same time, each from its own t with its own h. Samples that are
   done or have failed try steps of length 0, which leave them where they are. */
#include "flows/ode/solver.h"
#include "base/memory.h"
#include "flows/ode/kernels.h"
#include "flows/param.h"
#include "math/rows.h"
#include <math.h>
#include <string.h>

/* The arrays of a solve. The last of the stages' derivatives is f(next), where the rule has it. */
typedef struct arrays {
    nf_real *points, *k, *next, *l_next, *error, *norm, *work;
    nfi_ode_law law;
} arrays;

static nf_real *row_of(const arrays *w, size_t ld, size_t row)
{
    return w->work + row * ld;
}

static size_t rows_of_k(const nfi_ode *o)
{
    return o->rows + o->further;
}

static bool begin(const nfi_ode *o, arrays *w)
{
    const size_t ld = o->pass->ld, rows = o->rows, stages = o->rule->stages;
    nf_arena *a = o->pass->scratch;
    w->points = nf_arena_reals(a, stages * rows, ld);
    w->k = nf_arena_reals(a, (stages + 1) * rows_of_k(o), ld);
    w->next = nf_arena_reals(a, rows, ld);
    w->error = nf_arena_reals(a, rows, ld);
    w->l_next = nf_arena_reals(a, 1 + o->further, ld);
    w->norm = nf_arena_reals(a, 3, ld);
    w->work = nf_arena_reals(a, NFI_ODE_ROWS, ld);
    w->law = (nfi_ode_law){.to = o->to, .length = o->to - o->from, .order = o->rule->order, .least = 4 * NFI_EPSILON};
    return w->points && w->k && w->next && w->error && w->l_next && w->norm && w->work;
}

static nf_status evaluate(nfi_ode *o, size_t stage, const nf_real *u, bool quadrature, nf_real *k)
{
    o->evaluations++;
    o->stage = stage;
    return o->f(o, u, quadrature && o->quadrature, k);
}

nf_status nfi_ode_stages(nfi_ode *o, size_t first, const nf_real *h, nf_real *points, nf_real *k)
{
    const nfi_rule *rule = o->rule;
    const size_t ld = o->pass->ld, last = o->rows - 1, size = o->rows * ld, of_k = rows_of_k(o) * ld;
    nf_status status = NF_OK;
    for (size_t i = first; i < rule->stages && status == NF_OK; i++) {
        nf_real *u = points + i * size;
        if (i) {
            nfi_ode_combine(last, ld, i, rule->a[i], h, of_k, k, points, u);
            nfi_ode_time(ld, rule->c[i], o->to, h, points + last * ld, u + last * ld);
        }
        const bool weighs = rule->b[i] < 0 || rule->b[i] > 0 || rule->e[i] < 0 || rule->e[i] > 0;
        status = evaluate(o, i, u, weighs, k + i * of_k);
    }
    return status;
}

/* ---- lengths of steps ---- */

/* Samples that share their steps have one error: the mean over the tile. */
static void share(const nfi_ode *o, nf_real *square)
{
    double sum = 0;
    for (size_t s = 0; o->shared && s < o->pass->n; s++)
        sum += (double)square[s];
    for (size_t s = 0; o->shared && s < o->pass->ld; s++)
        square[s] = (nf_real)(sum / (double)o->pass->n);
}

/* square = the mean square of (x - minus) / scale over the state, and over the quadrature if that is given. */
static void mean_square(const nfi_ode *o, const nf_real *x, const nf_real *minus, const nf_real *u, const nf_real *v,
                        const nf_real *l, const nf_real *l_next, nf_real *square)
{
    const size_t ld = o->pass->ld, last = o->rows - 1;
    const nf_real part = 1 / (nf_real)(last + (l ? 1 : 0));
    memset(square, 0, ld * sizeof *square);
    nfi_ode_norm(last, ld, o->rtol, o->atol, part, x, minus, u, v, square);
    if (l)
        nfi_ode_norm(1, ld, o->rtol, o->atol, part, x + last * ld, minus ? minus + last * ld : NULL, l, l_next, square);
    share(o, square);
}

static nf_status first_step(nfi_ode *o, const nf_real *l, arrays *w)
{
    const size_t ld = o->pass->ld, last = o->rows - 1;
    nf_real *step = row_of(w, ld, NFI_ODE_STEP), *of_z = w->norm, *of_f = w->norm + ld, *of_change = w->norm + 2 * ld;
    nf_real *u = w->points, *k = w->k, *changed = w->error;
    mean_square(o, u, NULL, u, u, NULL, NULL, of_z);
    mean_square(o, k, NULL, u, u, l, l, of_f);
    nfi_ode_first(ld, &w->law, of_z, of_f, NULL, step);
    nfi_ode_combine(last, ld, 1, &(nf_real){1}, step, 0, k, u, w->next);
    nfi_ode_time(ld, 1, o->to, step, u + last * ld, w->next + last * ld);
    nf_status status = evaluate(o, NFI_ODE_TRIAL, w->next, true, changed);
    if (status != NF_OK)
        return status;
    mean_square(o, changed, k, u, u, l, l, of_change);
    nfi_ode_first(ld, &w->law, of_z, of_f, of_change, step);
    return NF_OK;
}

/* Steps of equal lengths, of which `done` are done. */
static void equal_step(const nfi_ode *o, size_t done, arrays *w)
{
    const size_t ld = o->pass->ld;
    const double each = (double)(o->to - o->from) / (double)o->most;
    const nf_real t = o->from + (nf_real)((double)done * each);
    const nf_real next = done + 1 < o->most ? o->from + (nf_real)((double)(done + 1) * each) : o->to;
    for (size_t s = 0; s < ld; s++)
        row_of(w, ld, NFI_ODE_STEP)[s] = next - t;
}

/* ---- the solve ---- */

/* Marks the samples that cannot begin, and those that are not to be solved. */
static void begin_work(const nfi_ode *o, arrays *w)
{
    const size_t ld = o->pass->ld;
    nf_real *active = row_of(w, ld, NFI_ODE_ACTIVE), *failed = row_of(w, ld, NFI_ODE_FAILED);
    nf_real *step = row_of(w, ld, NFI_ODE_STEP), *most = row_of(w, ld, NFI_ODE_MOST);
    nf_real *before = row_of(w, ld, NFI_ODE_BEFORE), *taken = row_of(w, ld, NFI_ODE_TAKEN);
    nf_real *length = row_of(w, ld, NFI_ODE_LENGTH);
    memset(failed, 0, ld * sizeof *failed);
    nfi_mark_not_finite(o->rows - 1, ld, w->points, failed);
    nfi_mark_not_finite(o->rows - (o->quadrature ? 0 : 1), ld, w->k, failed);
    for (size_t s = 0; s < ld; s++) {
        failed[s] = (nf_real)(isfinite(failed[s]) ? 0 : 1);
        active[s] = s < o->columns && !(failed[s] > 0) ? 1 : 0;
        step[s] = active[s] > 0 ? step[s] : 0;
        taken[s] = 0;
        length[s] = 0;
        most[s] = 10;
        before[s] = NF_R(-9.210340371976182); /* log 1e-4 */
    }
}

/* Tries one step; *active: how many samples are to go on. */
static nf_status try_step(nfi_ode *o, size_t done, nf_real *l, arrays *w, nf_real *active)
{
    const nfi_rule *rule = o->rule;
    const size_t ld = o->pass->ld, last = o->rows - 1, of_k = rows_of_k(o) * ld, quadratures = 1 + o->further;
    nf_real *u = w->points, *next = w->next, *k_next = w->k + rule->stages * of_k;
    nf_real *h = row_of(w, ld, NFI_ODE_STEP), *taken = row_of(w, ld, NFI_ODE_TAKEN);
    if (!rule->adaptive)
        equal_step(o, done, w);
    nf_status status = nfi_ode_stages(o, 1, h, w->points, w->k);
    nfi_ode_combine(last, ld, rule->stages, rule->b, h, of_k, w->k, u, next);
    nfi_ode_time(ld, 1, o->to, h, u + last * ld, next + last * ld);
    if (o->quadrature)
        nfi_ode_combine(quadratures, ld, rule->stages, rule->b, h, of_k, w->k + last * ld, l, w->l_next);
    if (status == NF_OK && (rule->adaptive || done + 1 < o->most))
        status = evaluate(o, rule->stages, next, true, k_next);
    if (status != NF_OK)
        return status;
    *active = done + 1 < o->most ? 1 : 0;
    if (!rule->adaptive) {
        memcpy(taken, h, ld * sizeof *taken);
    } else {
        nfi_ode_combine(last + (o->quadrature ? 1 : 0), ld, rule->stages + 1, rule->e, h, of_k, w->k, NULL, w->error);
        mean_square(o, w->error, NULL, u, next, o->quadrature ? l : NULL, w->l_next, w->norm);
        *active = nfi_ode_control(ld, &w->law, w->norm, u + last * ld, next + last * ld, w->work);
    }
    bool any = false;
    for (size_t s = 0; s < ld; s++)
        any |= taken[s] < 0 || taken[s] > 0;
    *(any ? &o->taken : &o->rejected) += 1;
    if (!any)
        return NF_OK;
    if (o->step)
        status = o->step(o, w->points, taken);
    nfi_ode_choose(o->rows, ld, taken, next, u);
    nfi_ode_choose(rows_of_k(o), ld, taken, k_next, w->k);
    if (o->quadrature)
        nfi_ode_choose(quadratures, ld, taken, w->l_next, l);
    return status;
}

/* Writes NaN where a sample failed: marked, out of steps, or not finite. */
static void end(nfi_ode *o, const arrays *w, nf_real *u, nf_real *l)
{
    const size_t ld = o->pass->ld, size = (o->rows - 1) * ld;
    nf_real *failed = row_of(w, ld, NFI_ODE_FAILED), *active = row_of(w, ld, NFI_ODE_ACTIVE);
    memcpy(u, w->points, o->rows * ld * sizeof *u);
    nfi_mark_not_finite(o->rows - 1, ld, u, failed);
    if (o->quadrature)
        nfi_mark_not_finite(1, ld, l, failed);
    o->failed = 0;
    for (size_t s = 0; s < o->columns; s++) {
        const bool bad = !(failed[s] <= 0) || (o->rule->adaptive && active[s] > 0);
        if (!bad)
            continue;
        o->failed += s < o->pass->n;
        for (size_t i = s; i < size; i += ld)
            u[i] = (nf_real)NAN;
        for (size_t i = s; o->quadrature && i < (1 + o->further) * ld; i += ld)
            l[i] = (nf_real)NAN;
    }
}

nf_status nfi_ode_solve(nfi_ode *o, nf_real *u, nf_real *l)
{
    const nf_mark mark = nf_arena_mark(o->pass->scratch);
    const size_t ld = o->pass->ld, last = o->rows - 1;
    arrays w;
    nf_status status = begin(o, &w) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        memcpy(w.points, u, last * ld * sizeof *u);
        for (size_t s = 0; s < ld; s++)
            w.points[last * ld + s] = o->from;
        if (o->quadrature)
            memset(l, 0, (1 + o->further) * ld * sizeof *l);
        o->evaluations = o->taken = o->rejected = 0;
        status = evaluate(o, 0, w.points, true, w.k);
    }
    if (status == NF_OK && o->rule->adaptive)
        status = first_step(o, o->quadrature ? l : NULL, &w);
    nf_real active = 1;
    if (status == NF_OK)
        begin_work(o, &w);
    for (size_t done = 0; done < o->most && active > 0 && status == NF_OK; done++)
        status = try_step(o, done, l, &w, &active);
    if (status == NF_OK)
        end(o, &w, u, l);
    nf_arena_rewind(o->pass->scratch, mark);
    return status;
}
