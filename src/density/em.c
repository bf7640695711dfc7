/* Expectation-maximisation for mixtures of normals with full covariances (Dempster, Laird & Rubin 1977). Of K
   components with shares p_k, and n rows y_i of weights w_i, mean 1, a step takes r_ik = p_k N(y_i; m_k, C_k) / q(y_i)
   and from them, with n_k = sum_i w_i r_ik,

       p_k = n_k / n,   m_k = sum_i w_i r_ik y_i / n_k,
       C_k = (sum_i w_i r_ik (y_i - m_k)(y_i - m_k)^T + b n / K I) / n_k

   in units in which each column has mean 0 and variance 1. The last term keeps every C_k positive definite, the more so
   the fewer rows it has. With it, each step is the exact maximum of a lower bound of the penalised mean log-likelihood

       (1/n) sum_i w_i log q(y_i) - b / (2 K) sum_k tr C_k^-1

   (Ciuperca, Ridolfi & Idier 2003), so that this number never falls, and it is bounded. (If b I were added to every
   C_k, there would be no such number.) With one component, C is the data's covariance plus b times the variances.

   A component of less than DEAD rows begins anew: it becomes half of the largest one, at a draw from it. */
#include "base/memory.h"
#include "density/em.h"
#include "density/rows.h"
#include "dist/types.h"
#include "math/noise.h"
#include "model/model.h"
#include "object/options.h"
#include <float.h>
#include <math.h>
#include <string.h>

static const double DEAD = 0.1; /* rows */
enum { MOST_RESEEDS = 5 /* per component, on average */ };

static const nf_em_options defaults = {.iterations = 200, .tolerance = 1e-5, .regularisation = 1e-6, .restarts = 10};
static const nf_option options_of_fit[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_em_options, iterations), .least = 1, .help = "the most iterations"},
    {NF_OPTION(NF_OPTION_REAL, nf_em_options, tolerance), .most = 1e3, .help = "least gain of an iteration"},
    {NF_OPTION(NF_OPTION_REAL, nf_em_options, regularisation), .least = 1e-12, .most = 1,
     .help = "added to covariances, in variances of the columns"},
    {NF_OPTION(NF_OPTION_SIZE, nf_em_options, restarts), .least = 1, .help = "runs of k-means"},
    {NF_OPTION(NF_OPTION_INTEGER, nf_em_options, seed), .help = "of the start"},
    {NF_OPTION(NF_OPTION_SIZE, nf_em_options, threads), .help = "0: as many as OpenMP would use"},
};
static const nf_option_table table = NF_OPTION_TABLE("nf_fit_mixture", nf_em_options, options_of_fit, &defaults);

/* ---- the step ---- */

typedef struct step {
    nfi_em em;
    nf_em_options options;
    double *inverse; /* [K] tr C_k^-1 */
    double n;        /* the weight of all rows in the sums */
} step;

/* Component k from its sums. */
static nf_status maximise(void *user, size_t k, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld, (void)memory;
    const step *s = user;
    const nfi_em *em = &s->em;
    const size_t dim = em->dim;
    const double count = em->count[k], *first = em->first + k * dim;
    double *L = em->second + k * nfi_below(dim + 1);
    if (count < DEAD)
        return NF_OK;
    for (size_t i = 0; i < dim; i++)
        for (size_t j = 0; j <= i; j++) {
            double *c = L + nfi_below(i + 1) + j;
            *c = *c / count - first[i] / count * (first[j] / count);
            *c += i == j ? s->options.regularisation * s->n / ((double)em->K * count) : 0;
        }
    nfi_em_factor(dim, (double)dim * DBL_EPSILON, L);
    for (size_t i = 0; i < dim; i++) {
        em->m[k * dim + i] = (nf_real)((double)em->m[k * dim + i] + first[i] / count);
        em->s[k * dim + i] = (nf_real)log(L[nfi_below(i + 1) + i]);
        for (size_t j = 0; j < i; j++)
            em->l[k * nfi_below(dim) + nfi_below(i) + j] = (nf_real)L[nfi_below(i + 1) + j];
    }
    em->logits[k] = (nf_real)log(count / s->n);
    return NF_OK;
}

/* Component k becomes half of the largest one. */
static void split_largest(const step *s, size_t k, uint64_t iteration)
{
    const nfi_em *em = &s->em;
    const size_t dim = em->dim, below = nfi_below(dim);
    size_t j = 0;
    for (size_t i = 1; i < em->K; i++)
        j = em->logits[i] > em->logits[j] ? i : j;
    nf_noise noise = {.seed = s->options.seed, .step = iteration, .first_sample = k, .site = NFI_EM_SITE + 2};
    memcpy(em->s + k * dim, em->s + j * dim, dim * sizeof *em->s);
    memcpy(em->l + k * below, em->l + j * below, below * sizeof *em->l);
    nf_noise_normal(&noise, dim, 1, 1, em->m + k * dim);
    for (size_t i = dim; i-- > 0;) {
        double at = (double)em->m[j * dim + i] + exp((double)em->s[j * dim + i]) * (double)em->m[k * dim + i];
        for (size_t e = 0; e < i; e++)
            at += (double)em->l[j * below + nfi_below(i) + e] * (double)em->m[k * dim + e];
        em->m[k * dim + i] = (nf_real)at;
    }
    em->logits[k] = em->logits[j] -= (nf_real)log(2);
}

/* All components from the sums; counts those that begin anew in *reseeded. */
static nf_status take_step(step *s, uint64_t iteration, size_t *reseeded)
{
    s->n = 0;
    for (size_t k = 0; k < s->em.K; k++)
        s->n += s->em.count[k];
    const nf_status status = nfi_for_tiles(s->em.ws, &(nfi_tiling){s->em.K, s->em.K, NFI_LANES}, maximise, s);
    for (size_t k = 0; k < s->em.K && status == NF_OK; k++)
        if (s->em.count[k] < DEAD)
            s->em.logits[k] = (nf_real)log(fmax(s->em.count[k], DEAD * 1e-6) / s->n);
    for (size_t k = 0; k < s->em.K && status == NF_OK; k++)
        if (s->em.count[k] < DEAD && *reseeded < MOST_RESEEDS * s->em.K) {
            split_largest(s, k, iteration);
            ++*reseeded;
        }
    return status;
}

/* inverse[k] = tr C_k^-1, the sum of the squares of L_k^-1. */
static nf_status invert(void *user, size_t k, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld;
    const step *s = user;
    const size_t dim = s->em.dim, width = NFI_EM_WIDTH;
    nf_real *zero = nf_arena_reals(&memory->scratch, 2, dim), *root = zero ? zero + dim : NULL;
    nf_real *unit = nf_arena_reals(&memory->scratch, 2 * dim, width), *column = unit ? unit + dim * width : NULL;
    if (!zero || !unit)
        return NF_ENOMEM;
    memset(zero, 0, dim * sizeof *zero);
    s->inverse[k] = 0;
    for (size_t from = 0; from < dim; from += width) {
        memset(unit, 0, dim * width * sizeof *unit);
        for (size_t i = from; i < dim && i < from + width; i++)
            unit[i * width + i - from] = 1;
        const nfi_full_affine L = {
            .dim = dim, .ld = width, .m = zero, .s = s->em.s + k * dim, .l = s->em.l + k * nfi_below(dim)};
        nfi_full_affine_multiply(L, NFI_L_SOLVE, root, unit, column);
        s->inverse[k] += nfi_em_square(dim * width, column);
    }
    return NF_OK;
}

/* What the regularisation takes from the mean log-likelihood. */
static nf_status penalty_of(step *s, double *penalty)
{
    const nf_status status = nfi_for_tiles(s->em.ws, &(nfi_tiling){s->em.K, s->em.K, NFI_LANES}, invert, s);
    *penalty = 0;
    for (size_t k = 0; k < s->em.K && status == NF_OK; k++)
        *penalty += s->inverse[k] * s->options.regularisation / (2 * (double)s->em.K);
    return status;
}

/* ---- the fit ---- */

static nf_status iterate(step *s, nf_em_report *report)
{
    nfi_em *em = &s->em;
    double before = -INFINITY, last = 0;
    size_t reseeded = 0;
    nf_status status = nfi_em_moments(em);
    status = status ? status : nfi_em_cluster(em, s->options.seed, em->K > 1 ? s->options.restarts : 1);
    if (status)
        return status;
    for (size_t i = 0; i < em->K * em->dim; i++)
        em->m[i] = 0;
    status = nfi_em_add_block(em);
    status = status ? status : take_step(s, 0, &reseeded);
    for (size_t iteration = 0; status == NF_OK; iteration++) {
        status = nfi_em_expect(em, &last);
        status = status ? status : penalty_of(s, &report->penalty);
        if (status)
            break;
        if (!isfinite(last))
            return nf_error(NF_ENOTFINITE, "nf_fit_mixture: the mean log-likelihood is %g after %zu iterations", last,
                            iteration);
        report->iterations = iteration;
        report->log_likelihood = last;
        report->converged = last - report->penalty - before <= s->options.tolerance;
        before = last - report->penalty;
        if (report->converged || iteration == s->options.iterations)
            break;
        const size_t so_far = reseeded;
        status = take_step(s, iteration + 1, &reseeded);
        if (reseeded > so_far)
            before = -INFINITY;
    }
    report->reseeded = reseeded;
    return status;
}

/* Writes the mixture in the units of the data to theta. NF_ENOTFINITE. */
static nf_status write(const nfi_em *em, nf_real *theta, nf_em_report *report)
{
    const size_t K = em->K, dim = em->dim;
    nf_real *m = theta + K, *s = m + K * dim, *l = s + K * dim;
    double all = 0;
    report->smallest_weight = INFINITY;
    for (size_t k = 0; k < K; k++) {
        theta[k] = em->logits[k];
        all += exp((double)em->logits[k]);
        report->smallest_weight = fmin(report->smallest_weight, exp((double)em->logits[k]));
        for (size_t i = 0; i < dim; i++) {
            *m++ = (nf_real)(em->mean[i] + em->scale[i] * (double)em->m[k * dim + i]);
            *s++ = (nf_real)((double)em->s[k * dim + i] + log(em->scale[i]));
            for (size_t j = 0; j < i; j++)
                *l++ = (nf_real)(em->scale[i] * (double)em->l[k * nfi_below(dim) + nfi_below(i) + j]);
        }
    }
    report->smallest_weight /= all;
    for (size_t i = 0; i < dim; i++)
        report->log_likelihood -= log(em->scale[i]);
    for (const nf_real *t = theta; t < l; t++)
        if (!isfinite(*t))
            return nf_error(NF_ENOTFINITE, "nf_fit_mixture: the data are too large for parameters of this precision");
    return NF_OK;
}

/* The components, and whether the data have a row with a weight for each. */
static nf_status check(const nf_model *model, const nf_data *data, nfi_em *em)
{
    const char *who = "nf_fit_mixture";
    const nf_object *o = nfi_density_model(model, data, who);
    if (!o)
        return nf_error_status();
    if (o->type != &nfi_gaussian_mixture_type)
        return nf_error(NF_EARG, "%s: the model is of `%s`, but must be an nf_gaussian_mixture", who,
                        nf_object_name(o));
    em->K = *(const size_t *)nf_self(o);
    em->n = data->n;
    em->dim = data->dim;
    em->weight = data->weight;
    em->mean_weight = nfi_mean_weight(data, who);
    if (em->mean_weight < 0)
        return nf_error_status();
    size_t rows = 0;
    for (size_t i = 0; i < data->n; i++)
        rows += !data->weight || data->weight[i] > 0;
    return rows >= em->K ? NF_OK
                         : nf_error(NF_EARG, "%s: data has %zu rows%s, but the mixture %zu components", who, rows,
                                    data->weight ? " with a weight" : "", em->K);
}

nf_status nf_fit_mixture(nf_model *model, const nf_data *data, const nf_em_options *options, nf_em_report *report)
{
    nf_em_report unwanted;
    report = report ? report : &unwanted;
    *report = (nf_em_report){.iterations = 0};
    step s = {.n = 0};
    nf_status status = nf_options_settle(&table, options, &s.options);
    status = status ? status : check(model, data, &s.em);
    status = status ? status : nfi_data_open(&s.em.rows, data, false, "nf_fit_mixture");
    if (status)
        return status;
    s.em.ws = nf_workspace_new(s.options.threads);
    status = s.em.ws ? nfi_em_begin(&s.em) : NF_ENOMEM;
    s.inverse = status == NF_OK ? nfi_zero_doubles(&s.em.ws->shared, s.em.K) : NULL;
    nf_real *theta = s.inverse ? nf_arena_reals(&s.em.ws->shared, 1, nf_model_shape(model)->n_params) : NULL;
    status = status ? status : theta ? iterate(&s, report) : NF_ENOMEM;
    status = status ? status : write(&s.em, theta, report);
    if (status == NF_OK)
        memcpy(nf_model_theta(model), theta, nf_model_shape(model)->n_params * sizeof *theta);
    nf_workspace_free(s.em.ws);
    nfi_data_close(&s.em.rows);
    return status ? status : nf_model_update(model, NF_EVAL);
}
