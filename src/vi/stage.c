/*
 * A stage of inference: a fit in the coordinates z of a normal approximation x = m + L z. The distribution that is
 * fitted ends in an affine map z = m' + L' u. In x that map is
 *
 *     x = (m + L m') + (L L') u,
 *
 * affine again, and L L' is lower triangular with the diagonals' products on its diagonal. So only its parameters
 * change when the result is brought back to x.
 */
#include "base/memory.h"
#include "base/status.h"
#include "math/cholesky.h"
#include "object/tree.h"
#include "vi/family.h"
#include <math.h>
#include <string.h>

static const char who[] = "nf_stage";

/* ---- the whitening's numbers ---- */

static size_t below_diagonal(size_t d)
{
    return d * (d - 1) / 2;
}

/* Whether m is of nf_full_normal(d) or nf_diagonal_normal(d). */
static nf_status check_whitening(const nf_model *m, size_t d, bool *diagonal)
{
    const nf_object *o = nf_model_object(m);
    const nf_shape *s = nf_object_shape(o);
    *diagonal = s->n_params == 2 * d;
    const bool normal = strcmp(nf_object_name(o), "pushforward") == 0 && o->n_children == 2 &&
                        strcmp(nf_object_name(o->children[0]), "normal") == 0 &&
                        strcmp(nf_object_name(o->children[1]), *diagonal ? "affine" : "full_affine") == 0;
    if (!normal)
        return nf_error(NF_EARG,
                        "%s: whitening is a model of `%s`, neither of nf_full_normal() nor of nf_diagonal_normal()",
                        who, nf_object_name(o));
    if (s->dim_out != d)
        return nf_error(NF_EDIM, "%s: whitening has %zu dimensions, but the target %zu", who, s->dim_out, d);
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

/* A model like m, whose last map is diagonal, with a full one in its place: what a full whitening makes of it. */
static nf_model *with_full_map(const nf_model *m, const nf_stage_options *o, size_t d, const nf_real *whitening)
{
    nf_model *full = nf_model_of_dist(nfi_family_dist(o, d, false), NULL);
    if (!full)
        return NULL;
    const nf_real *from = nf_model_theta((nf_model *)m), *mean = from + nf_model_shape(m)->n_params - 2 * d;
    nf_real *theta = nf_model_theta(full);
    memcpy(theta, from, (size_t)(mean - from) * sizeof *theta);
    theta += mean - from;
    memcpy(theta, mean, 2 * d * sizeof *theta);
    memset(theta + 2 * d, 0, below_diagonal(d) * sizeof *theta);
    if (fold_full(d, false, whitening, theta) == NF_OK && nf_model_update(full, NF_EVAL) == NF_OK)
        return full;
    nf_model_free(full);
    return NULL;
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
    const nf_status st = elbo ? nf_fit(elbo,
                                       &(nf_fit_options){.steps = o->steps,
                                                         .rate = o->rate,
                                                         .schedule = {.kind = NF_COSINE, .from = 1},
                                                         .seed = o->seed,
                                                         .threads = o->threads,
                                                         .callback = o->callback,
                                                         .user = o->user},
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
    memcpy(nf_model_theta(m), nf_model_theta((nf_model *)normal), 2 * d * sizeof(nf_real));
    if (nf_model_update(m, NF_EVAL) == NF_OK)
        return m;
    nf_model_free(m);
    return NULL;
}

/* Up to so many dimensions the last affine map of a flow is a full one, since whitening leaves something to do; with
   more it would take most of the time. */
enum { FULL_MAP = 100 };

/* The fit in z of a whitening that is a normal of the right kind. */
static nf_model *in_coordinates(const nf_target *t, const nf_model *whitening, bool diagonal, const nf_stage_options *o,
                                nf_fit_report *report)
{
    const size_t d = nf_target_dim(t);
    const bool light = d > FULL_MAP && !nfi_family_is_normal(o->family);
    const bool plain = (diagonal || light) && o->family != NF_FAMILY_FULL_RANK; /* the last affine map is diagonal */
    nf_target *z = nf_target_pulled_back(t, whitening);
    nf_model *m = z ? nf_model_of_dist(nfi_family_dist(o, d, plain), &(nf_model_options){.seed = o->seed}) : NULL;
    nf_status st = m ? fit(m, z, o, report) : nf_error_status();
    if (!st) {
        const size_t affine = 2 * d + (plain ? 0 : below_diagonal(d));
        const nf_real *white = nf_model_theta((nf_model *)whitening);
        nf_real *theta = nf_model_theta(m) + nf_model_shape(m)->n_params - affine;
        if (plain && !diagonal) {
            nf_model *full = with_full_map(m, o, d, white);
            st = full ? NF_OK : nf_error_status();
            nf_model_free(m);
            m = full;
        } else if (plain)
            fold_diagonal(d, white, theta);
        else
            st = fold_full(d, diagonal, white, theta);
    }
    if (!st)
        st = nf_model_update(m, NF_EVAL);
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
    bool diagonal;
    if (settle(&o, t, whitening, options) || check_whitening(whitening, nf_target_dim(t), &diagonal))
        return NULL;
    if (diagonal || o.family != NF_FAMILY_MEAN_FIELD || o.flow)
        return in_coordinates(t, whitening, diagonal, &o, report);
    nf_model *plain = diagonal_of(whitening, nf_target_dim(t));
    nf_model *m = plain ? in_coordinates(t, plain, true, &o, report) : NULL;
    nf_model_free(plain);
    return m;
}
