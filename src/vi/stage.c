/*
 * A stage of inference: a fit in the coordinates z of an approximation x = W(z), which is a distribution of x again
 * when W is put on top of what was fitted. W is mostly an affine map, and so is the last layer of what is fitted, z =
 * m' + L' u. Two of them are one,
 *
 *     x = (m + L m') + (L L') u,
 *
 * and L L' is lower triangular with the diagonals' products on its diagonal. So only the last layer's parameters
 * change, where it has as many as L L' needs.
 */
#include "base/memory.h"
#include "base/status.h"
#include "math/cholesky.h"
#include "object/tree.h"
#include "vi/family.h"
#include "vi/gaussian.h"
#include "vi/pace.h"
#include <math.h>
#include <nflow/combine.h>
#include <string.h>

static const char who[] = "nf_stage";

/* ---- the whitening's numbers ---- */

static size_t below_diagonal(size_t d)
{
    return d * (d - 1) / 2;
}

typedef enum form { DIAGONAL, FULL, OTHER } form; /* of the coordinates' map */

static nf_object *map_of(const nf_model *whitening)
{
    return nf_model_object(whitening)->children[1];
}

/* Its parameters are the model's last ones. */
static const nf_real *map_theta(const nf_model *whitening)
{
    return nf_model_theta((nf_model *)whitening) + nf_model_shape(whitening)->n_params -
           nf_object_shape(map_of(whitening))->n_params;
}

static nf_status check_whitening(const nf_model *m, size_t d, form *w)
{
    const nf_object *o = nf_model_object(m);
    const nf_shape *s = nf_object_shape(o);
    if (strcmp(nf_object_name(o), "pushforward") != 0 || o->n_children != 2)
        return nf_error(NF_EARG, "%s: whitening is a model of `%s`, which is no pushforward by a flow", who,
                        nf_object_name(o));
    if (s->n_state)
        return nf_error(NF_EARG, "%s: whitening has a state of %zu numbers, but must have none", who, s->n_state);
    const size_t from = nf_object_shape(o->children[1])->dim_in;
    if (s->dim_out != d || from != d)
        return nf_error(NF_EDIM, "%s: whitening has %zu dimensions, but the target %zu", who,
                        s->dim_out != d ? s->dim_out : from, d);
    const char *name = nf_object_name(map_of(m));
    *w = strcmp(name, "affine") == 0 ? DIAGONAL : strcmp(name, "full_affine") == 0 ? FULL : OTHER;
    return NF_OK;
}

/* The parameters of an affine map, mean [d], log-scale [d] and rows below the diagonal, as mean [d] and l [d x d]. */
static void unpack(size_t d, bool diagonal, const nf_real *theta, double *mean, double *l)
{
    const nf_real *below = theta + 2 * d;
    for (size_t i = 0; i < d; i++) {
        mean[i] = (double)theta[i];
        for (size_t j = 0; j < i; j++)
            l[i * d + j] = diagonal ? 0 : (double)*below++;
        l[i * d + i] = exp((double)theta[d + i]);
    }
}

/* theta, the parameters of a full affine map in z, becomes those in x. */
static nf_status fold_full(size_t d, bool diagonal, const nf_real *whitening, nf_real *theta)
{
    double *m = nfi_calloc(d, (2 * d + 3) * sizeof *m);
    if (!m)
        return NF_ENOMEM;
    double *l = m + d, *m2 = l + d * d, *l2 = m2 + d, *out = l2 + d * d;
    unpack(d, diagonal, whitening, m, l);
    unpack(d, false, theta, m2, l2);
    nfi_lower_times(d, m, l, m2, out);
    nf_real *below = theta + 2 * d;
    for (size_t i = 0; i < d; i++) {
        theta[i] = (nf_real)out[i];
        theta[d + i] += whitening[d + i];
        for (size_t j = 0; j < i; j++) {
            double sum = 0;
            for (size_t k = j; k <= i; k++)
                sum += l[i * d + k] * l2[k * d + j];
            *below++ = (nf_real)sum;
        }
    }
    nfi_free(m);
    return NF_OK;
}

/* A model of what m is of, with the coordinates' map on top. */
static nf_model *put_on_top(const nf_model *m, const nf_model *whitening)
{
    nf_object *o = nf_model_object(m), *map = map_of(whitening);
    nf_flow *own = (nf_flow *)nf_object_ref(o->children[1]), *top = (nf_flow *)nf_object_ref(map);
    nf_dist *base = (nf_dist *)nf_object_ref(o->children[0]);
    nf_model *both = nf_model_of_dist(nf_pushforward(base, nf_chain((nf_flow *[]){own, top}, 2)), NULL);
    if (!both)
        return NULL;
    const size_t n = nf_model_shape(m)->n_params, n_top = nf_object_shape(map)->n_params;
    nf_real *theta = nf_model_theta(both);
    memcpy(theta, nf_model_theta((nf_model *)m), n * sizeof *theta);
    memcpy(theta + n, map_theta(whitening), n_top * sizeof *theta);
    return both;
}

static void fold_diagonal(size_t d, const nf_real *whitening, nf_real *theta)
{
    for (size_t i = 0; i < d; i++) {
        theta[i] = (nf_real)((double)whitening[i] + exp((double)whitening[d + i]) * (double)theta[i]);
        theta[d + i] += whitening[d + i];
    }
}

/* ---- the fit ---- */

static nf_status fit(nf_model *m, const nf_target *z, const nf_stage_options *o, nf_fit_report *report)
{
    nf_objective *elbo = nf_elbo(
        m, z,
        &(nf_elbo_options){.draws = o->draws, .gradient = o->total_gradient ? NF_GRADIENT_PATH : NF_GRADIENT_STL});
    nf_convergence own = {0};
    nfi_pace pace;
    nfi_pace_begin(&pace, o->steps, o->rule ? o->rule : &own);
    pace.callback = o->callback;
    pace.user = o->user;
    const nf_status st =
        elbo ? nf_fit(elbo,
                      &(nf_fit_options){.steps = o->steps,
                                        .rate = o->rate,
                                        .schedule = {.kind = NF_CUSTOM, .call = nfi_pace_factor, .user = &pace},
                                        .seed = o->seed,
                                        .threads = o->threads,
                                        .callback = nfi_pace_step,
                                        .user = &pace},
                      report)
             : nf_error_status();
    nf_objective_free(elbo);
    return st;
}

static nf_status settle(nf_stage_options *o, const nf_target *t, const nf_model *whitening,
                        const nf_stage_options *given)
{
    if (!t || !whitening)
        return nfi_missing(who, !t ? "`t`" : "`whitening`");
    *o = given ? *given : (nf_stage_options){0};
    if ((unsigned)o->family > NF_FAMILY_RESIDUAL)
        return nf_error(NF_EARG, "%s: family is %d, which is none", who, (int)o->family);
    if (!(o->rate >= 0 && o->rate < INFINITY) || !(o->df >= 0 && o->df < INFINITY))
        return nf_error(NF_EARG, "%s: %s is %g, but must be finite and not negative", who,
                        o->rate >= 0 && o->rate < INFINITY ? "df" : "rate",
                        o->rate >= 0 && o->rate < INFINITY ? o->df : o->rate);
    if (o->rule && !(o->rule->tolerance >= 0) && o->rule->tolerance != NF_ZERO)
        return nf_error(NF_EARG, "%s: rule->tolerance is %g, but must be positive, 0 or NF_ZERO", who,
                        o->rule->tolerance);
    o->family = o->family ? o->family : NF_FAMILY_REALNVP;
    const nf_family like = o->flow ? NF_FAMILY_REALNVP : o->family;
    o->steps = o->steps ? o->steps : nfi_family_steps(like);
    o->draws = o->draws ? o->draws : 100;
    o->rate = o->rate > 0 ? o->rate : nfi_family_rate(like);
    return NF_OK;
}

/* A model of the diagonal of a normal. */
static nf_model *diagonal_of(const nf_model *normal, size_t d)
{
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(d), NULL);
    if (!m)
        return NULL;
    memcpy(nf_model_theta(m), map_theta(normal), 2 * d * sizeof(nf_real));
    if (nf_model_update(m, NF_EVAL) == NF_OK)
        return m;
    nf_model_free(m);
    return NULL;
}

/* *m, which was fitted in z, becomes a model of x. Its last map is diagonal, if `plain`. */
static nf_status bring_back(nf_model **m, size_t d, bool plain, const nf_model *whitening, form w)
{
    nf_status st = NF_OK;
    if (w == OTHER || (w == FULL && plain)) {
        nf_model *both = put_on_top(*m, whitening);
        if (!both)
            return nf_error_status();
        nf_model_free(*m);
        *m = both;
    } else {
        const nf_real *white = map_theta(whitening);
        nf_real *theta = nf_model_theta(*m) + nf_model_shape(*m)->n_params - 2 * d - (plain ? 0 : below_diagonal(d));
        if (plain)
            fold_diagonal(d, white, theta);
        else
            st = fold_full(d, w == DIAGONAL, white, theta);
    }
    return st ? st : nf_model_update(*m, NF_EVAL);
}

/* The fit in the coordinates of a whitening of this form. */
static nf_model *in_coordinates(const nf_target *t, const nf_model *whitening, form w, const nf_stage_options *o,
                                nf_fit_report *report)
{
    const size_t d = nf_target_dim(t);
    const bool light = d > NFI_FULL_MAP && !nfi_family_is_normal(o->family);
    const bool plain = (w != FULL || light) && o->family != NF_FAMILY_FULL_RANK; /* the last affine map is diagonal */
    nf_target *z = nf_target_pulled_back(t, whitening);
    nf_model *m = z ? nf_model_of_dist(nfi_family_dist(o, d, plain), &(nf_model_options){.seed = o->seed}) : NULL;
    nf_status st = m ? fit(m, z, o, report) : nf_error_status();
    if (!st)
        st = bring_back(&m, d, plain, whitening, w);
    nf_target_free(z);
    if (!st)
        return m;
    nf_model_free(m);
    return NULL;
}

nf_model *nf_stage(const nf_target *t, const nf_model *whitening, const nf_stage_options *options,
                   nf_fit_report *report)
{
    nf_stage_options o;
    form w;
    if (settle(&o, t, whitening, options) || check_whitening(whitening, nf_target_dim(t), &w))
        return NULL;
    const bool of_axes = o.family == NF_FAMILY_MEAN_FIELD || o.family == NF_FAMILY_LOW_RANK;
    if (w != FULL || !of_axes || o.flow)
        return in_coordinates(t, whitening, w, &o, report);
    nf_model *plain = diagonal_of(whitening, nf_target_dim(t));
    nf_model *m = plain ? in_coordinates(t, plain, DIAGONAL, &o, report) : NULL;
    nf_model_free(plain);
    return m;
}
