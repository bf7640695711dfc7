#include "bayes_models.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAYES_NUMBERS = 32, BAYES_NAME = 64 }; /* of what is derived */

/* ---- the table ---- */

#define MODELS(X)                      \
    X(bayes_ark)                       \
    X(bayes_blr)                       \
    X(bayes_diamonds)                  \
    X(bayes_eight_schools_centred)     \
    X(bayes_eight_schools_non_centred) \
    X(bayes_garch)                     \
    X(bayes_gp_regression)             \
    X(bayes_hmm)                       \
    X(bayes_kidscore)                  \
    X(bayes_gauss_mix)                 \
    X(bayes_lotka_volterra)            \
    X(bayes_mesquite)                  \
    X(bayes_nes)                       \
    X(bayes_german_credit)             \
    X(bayes_funnel)                    \
    X(bayes_banana)                    \
    X(bayes_ring)                      \
    X(bayes_student_t)                 \
    X(bayes_ill_conditioned)           \
    X(bayes_hierarchical)              \
    X(bayes_conjugate)

#define DECLARE(model) extern const bayes_model model;
#define ADDRESS(model) &model,
MODELS(DECLARE)
const bayes_model *const bayes_models[] = {MODELS(ADDRESS) NULL};

const bayes_model *bayes_find(const char *name)
{
    for (size_t i = 0; bayes_models[i]; i++)
        if (strcmp(bayes_models[i]->name, name) == 0)
            return bayes_models[i];
    nf_error(NF_EARG, "bayes_find: there is no model \"%s\"", name);
    return NULL;
}

/* ---- parameters ---- */

nf_flow *bayes_positive(size_t n)
{
    return nf_lower(n, 0);
}

nf_flow *bayes_fraction(size_t n)
{
    return nf_interval(n, 0, 1);
}

static size_t size_of(const bayes_parameter *p)
{
    return p->n ? p->n : 1;
}

static nf_flow *constraint_of(const bayes_parameter *p)
{
    return p->constraint ? p->constraint(size_of(p)) : nf_identity(size_of(p));
}

size_t bayes_numbers(const bayes_parameter *p)
{
    size_t n = 0;
    for (size_t i = 0; i < BAYES_BLOCKS && p[i].name; i++)
        n += size_of(&p[i]);
    return n;
}

nf_flow *bayes_constraints(const bayes_model *m)
{
    nf_flow *block[BAYES_BLOCKS];
    size_t n = 0;
    for (; n < BAYES_BLOCKS && m->parameters[n].name; n++)
        block[n] = constraint_of(&m->parameters[n]);
    return nf_blocks(block, n);
}

/* ---- targets ---- */

nf_target *bayes_target(const bayes_model *m, const char *folder)
{
    nf_parameter p[BAYES_BLOCKS];
    nf_target *density = bayes_density(m, folder);
    size_t n = 0;
    if (!density)
        return NULL;
    for (; n < BAYES_BLOCKS && m->parameters[n].name; n++)
        p[n] = (nf_parameter){m->parameters[n].name, constraint_of(&m->parameters[n]), NULL, 0};
    return nf_target_constrained(density, p, n);
}

typedef struct instance {
    const bayes_model *model;
    void *data;
} instance;

static void release(void *user)
{
    instance *i = user;
    free(i->data);
    free(i);
}

static int point(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    const instance *i = user;
    double unwanted[BAYES_DIM], *g = grad ? grad : unwanted;
    memset(g, 0, d * sizeof *g);
    *log_p = i->model->log_p(i->data, x, g);
    return !isfinite(*log_p);
}

static int derive(void *user, size_t n, size_t d, const double *x, double *y)
{
    const instance *i = user;
    const size_t k = bayes_numbers(i->model->derived);
    for (size_t s = 0; s < n; s++)
        i->model->derive(x + s * d, y + s * k);
    return 0;
}

/* Declares what is derived as outputs of the density. */
static nf_target *with_derived(nf_target *t, instance *i)
{
    char text[BAYES_NUMBERS][BAYES_NAME];
    const char *name[BAYES_NUMBERS];
    size_t n = 0;
    for (const bayes_parameter *p = i->model->derived; p < i->model->derived + BAYES_BLOCKS && p->name; p++)
        for (size_t k = 0; k < size_of(p); k++, n++) {
            if (p->n)
                snprintf(text[n], BAYES_NAME, "%s.%zu", p->name, k + 1);
            else
                snprintf(text[n], BAYES_NAME, "%s", p->name);
            name[n] = text[n];
        }
    return nf_target_with_outputs(t, n, name, derive, i);
}

nf_target *bayes_density(const bayes_model *m, const char *folder)
{
    instance *i = calloc(1, sizeof *i);
    if (!i) {
        nf_error(NF_ENOMEM, "bayes_density: no memory");
        return NULL;
    }
    *i = (instance){.model = m, .data = m->read ? m->read(folder) : NULL};
    if (m->read && !i->data) {
        free(i);
        return NULL;
    }
    nf_target *t = nf_target_point_callback(bayes_numbers(m->parameters), point, i, NF_THREADSAFE);
    t = nf_target_own(t, i, release);
    return t && m->derive ? with_derived(t, i) : t;
}

double bayes_normalised(const void *data)
{
    (void)data;
    return 0;
}

double bayes_log_z(const bayes_model *m, const char *folder)
{
    void *data = m->read && m->log_z ? m->read(folder) : NULL;
    const double log_z = m->log_z && (data || !m->read) ? m->log_z(data) : NAN;
    free(data);
    return log_z;
}
