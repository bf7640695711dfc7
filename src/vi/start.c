/*
 * The start of inference: paths to modes from several points, the best normal approximation of each path, and of these
 * the best one; where that is not near the target, also mean-field ones from the same points. gaussian.c and
 * mean_field.c have the formulas.
 */
#include "vi/start.h"
#include "base/memory.h"
#include <math.h>
#include <nflow/noise.h>
#include <string.h>

enum {
    TRIES = 20,          /* starting points that may be rejected in a row */
    LAPLACE_OF_ALL = 50, /* up to so many dimensions all paths have Laplace's approximation */
    SITE = 0x57a6        /* of starting points */
};

static const char who[] = "nf_start";

/* x [d] = the start of a path. */
static nf_status starting_point(const nf_start_options *o, size_t d, size_t path, size_t attempt, double *x)
{
    if (path < o->n_init && attempt == 0) {
        memcpy(x, o->init + path * d, d * sizeof *x);
        return NF_OK;
    }
    nf_real *u = nfi_calloc(d, 16 * sizeof *u);
    if (!u)
        return NF_ENOMEM;
    const nf_noise noise = {.seed = o->seed, .step = attempt, .first_sample = path, .site = SITE};
    nf_noise_uniform(&noise, d, 1, 16, u);
    for (size_t j = 0; j < d; j++)
        x[j] = o->radius * (2 * (double)u[j * 16] - 1);
    nfi_free(u);
    return NF_OK;
}

/* Climbs from the first starting point that the target accepts. */
static nf_status climb(nfi_path *path, const nf_target *t, const nf_start_options *o, size_t number)
{
    double *x = nfi_calloc(path->d, sizeof *x);
    nf_status st = x ? NF_OK : NF_ENOMEM;
    path->n = 0;
    for (size_t k = 0; k < TRIES && !st && path->n == 0; k++) {
        st = starting_point(o, path->d, number, k, x);
        if (!st)
            st = nfi_path_climb(path, t, x);
    }
    nfi_free(x);
    return st;
}

/* *a = the better one of *a and `other`, by all draws of `c`. `other` is released. */
static nf_status take_better(nfi_gaussian *a, nfi_gaussian *other, bool usable, const nfi_comparison *c)
{
    const nf_status st = usable ? nfi_gaussian_elbo(other, c, c->n) : NF_OK;
    if (!st && usable && other->elbo > a->elbo) {
        const nfi_gaussian worse = *a;
        *a = *other;
        *other = worse;
    }
    nfi_gaussian_end(other);
    return st;
}

/* Laplace's approximation at the path's end. */
static nf_status compare_with_laplace(nfi_gaussian *a, const nfi_path *path, const nfi_comparison *c)
{
    bool usable = false;
    nfi_gaussian other;
    nf_status st = nfi_gaussian_begin(&other, path->d, false);
    if (!st)
        st = nfi_gaussian_laplace(&other, path, c->target, &usable);
    const nf_status taken = take_better(a, &other, usable && !st, c);
    return st ? st : taken;
}

/* The mean-field approximation from a path's start, x0 [d]. */
static nf_status compare_with_mean_field(nfi_gaussian *a, const double *x0, const nfi_comparison *c,
                                         const nf_start_options *o, size_t number)
{
    bool usable = false;
    nfi_gaussian other;
    nf_status st = nfi_gaussian_begin(&other, c->d, c->d > o->full || c->d > NFI_FULL_MAP);
    if (!st)
        st = nfi_gaussian_mean_field(&other, c->target, x0, o->seed, number, &usable);
    const nf_status taken = take_better(a, &other, usable && !st, c);
    return st ? st : taken;
}

static size_t best_of(const nfi_start *s)
{
    size_t best = 0;
    for (size_t k = 1; k < s->n; k++)
        best = s->path[k].elbo > s->path[best].elbo ? k : best;
    return best;
}

/* The approximations of paths, and Laplace's; x0 [paths x d] receives where the paths start, NaN if there is none.
   `best` receives the path of the best one. */
static nf_status along_paths(nfi_start *s, const nf_start_options *o, nfi_path *path, nfi_path *best,
                             const nfi_comparison *c, double *x0)
{
    const size_t d = c->d;
    const bool diagonal = d > o->full, of_all = d <= LAPLACE_OF_ALL;
    nf_status st = NF_OK;
    s->log_p = -INFINITY;
    for (s->n = 0; s->n < o->paths && !st; s->n++) {
        nfi_gaussian *a = s->path + s->n;
        st = nfi_gaussian_begin(a, d, diagonal);
        if (!st)
            st = climb(path, c->target, o, s->n);
        if (!st && path->n)
            st = nfi_gaussian_along(a, path, c, o->path_draws < c->n ? o->path_draws : c->n);
        if (!st && a->elbo > -INFINITY)
            st = nfi_gaussian_elbo(a, c, c->n);
        if (!st && path->n && !diagonal && of_all)
            st = compare_with_laplace(a, path, c);
        for (size_t k = 0; k < path->n; k++)
            s->log_p = fmax(s->log_p, path->log_p[k]);
        for (size_t j = 0; j < d; j++)
            x0[s->n * d + j] = path->n ? path->x[j] : NAN;
        if (s->n == 0 || a->elbo > s->path[s->best].elbo) {
            const nfi_path other = *best;
            *best = *path;
            *path = other;
            s->best = s->n;
        }
    }
    if (!st && s->path[s->best].elbo > -INFINITY && !diagonal && !of_all)
        st = compare_with_laplace(s->path + s->best, best, c);
    return st;
}

/* Whether the best approximation is near the target: log p - log q varies by less than a nat. With many dimensions that
   may be so at a mode without mass. */
static bool is_near(const nfi_start *s, const nfi_comparison *c)
{
    return c->d <= NFI_FULL_MAP && s->path[s->best].se * sqrt((double)c->n) < 1;
}

static nf_status find(nfi_start *s, const nf_start_options *o, nfi_path *path, nfi_path *best, const nfi_comparison *c,
                      double *x0)
{
    nf_status st = along_paths(s, o, path, best, c, x0);
    for (size_t k = 0; k < s->n && !st && !is_near(s, c); k++)
        if (!isnan(x0[k * c->d]))
            st = compare_with_mean_field(s->path + k, x0 + k * c->d, c, o, k);
    if (st)
        return st;
    s->best = best_of(s);
    if (s->path[s->best].elbo > -INFINITY)
        return NF_OK;
    const char *why = nf_target_rejection(c->target);
    return nf_error(
        NF_ETARGET,
        "%s: no normal approximation in %zu dimensions was found from %zu starting points (the largest log p "
        "is %g)%s%s",
        who, c->d, o->paths, s->log_p, *why ? "; a draw was rejected: " : "", why);
}

static nf_status settle(nf_start_options *o, const nf_target *t)
{
    if (!t)
        return nfi_missing(who, "`t`");
    if (!(o->radius >= 0 && o->radius < INFINITY))
        return nf_error(NF_EARG, "%s: radius is %g, but must be finite and not negative", who, o->radius);
    if (o->n_init && !o->init)
        return nf_error(NF_EARG, "%s: n_init is %zu, but init is NULL", who, o->n_init);
    o->paths = o->paths ? o->paths : 4;
    if (o->n_init > o->paths)
        return nf_error(NF_EARG, "%s: n_init is %zu, but there are only %zu paths", who, o->n_init, o->paths);
    o->radius = o->radius > 0 ? o->radius : 2;
    o->iterations = o->iterations ? o->iterations : 300;
    o->draws = o->draws ? o->draws : 100;
    o->path_draws = o->path_draws ? o->path_draws : 10;
    o->full = o->full ? o->full : 1000;
    return NF_OK;
}

nf_status nfi_start_find(nfi_start *s, const nf_target *t, const nf_start_options *given)
{
    nf_start_options o = given ? *given : (nf_start_options){0};
    nfi_comparison c = {0};
    nfi_path path = {0}, best = {0};
    *s = (nfi_start){0};
    nf_status st = settle(&o, t);
    if (st)
        return st;
    nfi_target_step(t);
    s->path = nfi_calloc(o.paths, sizeof *s->path);
    double *x0 = nfi_calloc(o.paths, t->d * sizeof *x0);
    st = s->path && x0 ? nfi_comparison_begin(&c, t, o.draws, o.seed) : NF_ENOMEM;
    if (!st)
        st = nfi_path_begin(&path, t->d, o.iterations);
    if (!st)
        st = nfi_path_begin(&best, t->d, o.iterations);
    if (!st)
        st = find(s, &o, &path, &best, &c, x0);
    nfi_free(x0);
    nfi_path_end(&path);
    nfi_path_end(&best);
    nfi_comparison_end(&c);
    if (st)
        nfi_start_end(s);
    return st;
}

void nfi_start_end(nfi_start *s)
{
    for (size_t k = 0; k < s->n; k++)
        nfi_gaussian_end(s->path + k);
    nfi_free(s->path);
    *s = (nfi_start){0};
}

nf_model *nfi_gaussian_model(const nfi_gaussian *a)
{
    const size_t d = a->d;
    nf_model *m = nf_model_of_dist(a->diagonal ? nf_diagonal_normal(d) : nf_full_normal(d), NULL);
    if (!m)
        return NULL;
    nf_real *theta = nf_model_theta(m), *below = theta + 2 * d;
    for (size_t i = 0; i < d; i++) {
        theta[i] = (nf_real)a->mean[i];
        theta[d + i] = (nf_real)log(a->l[a->diagonal ? i : i * d + i]);
        for (size_t j = 0; j < i && !a->diagonal; j++)
            *below++ = (nf_real)a->l[i * d + j];
    }
    if (nf_model_update(m, NF_EVAL)) {
        nf_model_free(m);
        return NULL;
    }
    return m;
}

nf_start_report nfi_start_report(const nfi_start *s)
{
    const nfi_gaussian *a = s->path + s->best;
    nf_start_report r = {.elbo = a->elbo,
                         .elbo_error = a->se,
                         .log_p = s->log_p,
                         .path = s->best,
                         .point = a->point,
                         .laplace = a->laplace};
    for (size_t k = 0; k < s->n; k++)
        r.usable += s->path[k].elbo > -INFINITY;
    return r;
}

nf_model *nf_start(const nf_target *t, const nf_start_options *options, nf_start_report *report)
{
    nfi_start s;
    if (nfi_start_find(&s, t, options))
        return NULL;
    nf_model *m = nfi_gaussian_model(s.path + s.best);
    if (report)
        *report = nfi_start_report(&s);
    nfi_start_end(&s);
    return m;
}
