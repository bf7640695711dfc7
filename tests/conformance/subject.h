/* What every conformance test works on: a row's flow in one dimension and one guise, bound to numbers, with points. */
#ifndef CONFORMANCE_SUBJECT_H
#define CONFORMANCE_SUBJECT_H
#include "support/numbers.h"
#include "rows.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How the row's flow gets its parameters and context. The three of amortisation are for layers with NF_PER_SAMPLE, the
   last for layers that take context themselves. */
typedef enum guise { SHARED, BY_CONTEXT, BY_HEAD, ON_CONTEXT, OWN_CONTEXT, N_GUISES } guise;
enum { ON_CONTEXT_FIRST = 3, OWN_CONTEXT_ROWS = 3 };
static const char *const guise_names[N_GUISES] = {"shared", "amortised by context", "amortised by a head",
                                                  "amortised on part of a context", "with context"};

static const size_t dims[] = {1, 2, 3, 5, 21, 64};
enum { N_DIMS = sizeof dims / sizeof *dims };

/* What sanitizers see in small dimensions and few teams of threads they need not see again (NFLOW_THIN): that every row
   runs in every dimension, each hook of it, is the other tests' part.
   (Emulated, with NFLOW_THIN 2, there are fewer points, too.) */
#if NFLOW_THIN
enum { MOST_DIMS_OF_DERIVATIVES = 5, N_TEAMS = 2 };
#else
enum { MOST_DIMS_OF_DERIVATIVES = 64, N_TEAMS = 4 };
#endif

typedef struct subject {
    const row *row;
    guise guise;
    const chart *chart; /* NULL: from R^dim to R^dim */
    size_t dim, n, n_ctx, n_params;
    size_t rows[2]; /* that enter, by direction; the other's leave */
    nf_model *m;
    nf_workspace *ws;
    nf_real *x[2]; /* points [n x rows], by direction: x[NF_INVERSE] are images of x[NF_FORWARD] */
    nf_real *ctx;
} subject;

/* NULL where the row has no such guise. */
static inline nf_flow *dress(const row *r, size_t dim, guise g)
{
    if (g == OWN_CONTEXT && !r->takes_context)
        return NULL;
    nf_flow *f = r->build(dim, g == OWN_CONTEXT ? OWN_CONTEXT_ROWS : 0);
    cr_assert_not_null(f, "%s, %zu dimensions: %s", r->name, dim, nf_error_message());
    const size_t n_params = nf_flow_shape(f)->n_params;
    if (g == SHARED || g == OWN_CONTEXT)
        return f;
    if (!(nf_flow_shape(f)->flags & NF_PER_SAMPLE) || !n_params) {
        nf_flow_free(f);
        return NULL;
    }
    if (g == BY_CONTEXT)
        return nf_amortized_by_context(f);
    if (g == BY_HEAD)
        return nf_amortized(
            f, nf_mlp(3, n_params, 0,
                      &(nf_mlp_options){
                          .hidden = (size_t[]){9}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.2}));
    return nf_on_context(nf_amortized_by_context(f), n_params + 5, ON_CONTEXT_FIRST);
}

static inline void run(const subject *s, nf_direction d, size_t n, const nf_real *x, const nf_real *ctx, nf_real *y,
                       double *log_det)
{
    cr_assert_eq(nf_transform(s->m, s->ws, NULL, d, n, x, ctx, y, log_det), NF_OK, "%s", nf_error_message());
}

static inline void run_vjp(const subject *s, nf_direction d, const nf_real *gy, const nf_real *g_l, nf_real *gx,
                           nf_real *g_ctx, nf_real *g_theta)
{
    cr_assert_eq(nf_transform_vjp(s->m, s->ws, NULL, d, s->n, s->x[d], s->ctx, gy, g_l, gx, g_ctx, g_theta), NF_OK,
                 "%s", nf_error_message());
}

/* The row's own parameters in this dimension: initial ones, scattered. */
static inline nf_real *own_parameters(const row *r, size_t dim, size_t n_ctx, size_t *n_params)
{
    nf_model *m = nf_model_of_flow(r->build(dim, n_ctx), &(nf_model_options){.seed = 5 + dim});
    cr_assert_not_null(m, "%s", nf_error_message());
    *n_params = nf_model_shape(m)->n_params;
    nf_real *theta = normals(17 + dim, *n_params, r->theta_scale);
    for (size_t i = 0; i < *n_params; i++)
        theta[i] += nf_model_theta(m)[i];
    nf_model_free(m);
    return theta;
}

/* Amortised parameters scatter about the row's own: in the context, or through the head's last biases. */
static inline void set_parameters(subject *s)
{
    size_t n_own;
    const bool in_context = s->guise == BY_CONTEXT || s->guise == ON_CONTEXT;
    nf_real *own = own_parameters(s->row, s->dim, s->guise == OWN_CONTEXT ? s->n_ctx : 0, &n_own);
    nf_real *theta = nf_model_theta(s->m);
    s->ctx = normals(29, s->n * s->n_ctx, in_context ? 0.6 * s->row->theta_scale : 0.6);
    if (!in_context)
        memcpy(theta + s->n_params - n_own, own, n_own * sizeof *own);
    else
        for (size_t i = 0; i < s->n * n_own; i++)
            s->ctx[i / n_own * s->n_ctx + (s->guise == ON_CONTEXT ? ON_CONTEXT_FIRST : 0) + i % n_own] +=
                own[i % n_own];
    free(own);
    for (size_t i = 0; i < nf_model_shape(s->m)->n_state; i++) /* exact in either precision */
        nf_model_state(s->m)[i] = (nf_real)(8 + 7 * i % 16) / 16;
    cr_assert_eq(nf_model_update(s->m, NF_EVAL), NF_OK);
}

/* False where the row has no such subject. */
static inline bool make_subject(subject *s, const row *r, size_t dim, guise g, size_t n)
{
    nf_flow *f = dress(r, dim, g);
    if (!f)
        return false;
    *s = (subject){.row = r, .guise = g, .dim = dim, .n = n};
    s->m = nf_model_of_flow(f, &(nf_model_options){.seed = 5 + dim});
    s->ws = nf_workspace_new(2);
    cr_assert(s->m && s->ws, "%s", nf_error_message());
    s->n_ctx = nf_model_shape(s->m)->n_ctx;
    s->n_params = nf_model_shape(s->m)->n_params;
    s->rows[NF_FORWARD] = nf_model_shape(s->m)->dim_in;
    s->rows[NF_INVERSE] = nf_model_shape(s->m)->dim_out;
    s->chart = find_chart(r->build);
    set_parameters(s);
    s->x[NF_FORWARD] = normals(31, n * s->rows[NF_FORWARD], 1.3 * (s->chart ? s->chart->scale : 1));
    s->x[NF_INVERSE] = reals(n * s->rows[NF_INVERSE]);
    run(s, NF_FORWARD, n, s->x[NF_FORWARD], s->ctx, s->x[NF_INVERSE], NULL);
    return true;
}

/* Features that leave in direction d. */
static inline size_t rows_out(const subject *s, nf_direction d)
{
    return s->rows[d == NF_FORWARD ? NF_INVERSE : NF_FORWARD];
}

static inline void free_subject(subject *s)
{
    nf_model_free(s->m);
    nf_workspace_free(s->ws);
    free(s->x[0]);
    free(s->x[1]);
    free(s->ctx);
}

/* "planar, 5 dimensions, shared, inverse" */
static inline const char *title(const subject *s, nf_direction d)
{
    static char text[160];
    snprintf(text, sizeof text, "%s, %zu dimensions, %s, %s", s->row->name, s->dim, guise_names[s->guise],
             d == NF_FORWARD ? "forward" : "inverse");
    return text;
}

enum { MOST_COSTLY = NFLOW_THIN > 1 ? 1 : NFLOW_THIN ? 3 : 5 }; /* features of rows that are COSTLY */

/* Every dimension up to `most_dims`, guise and direction of a row, at n points; the number of cases. */
typedef void visit_fn(const subject *s, nf_direction d);
static inline size_t for_subjects(size_t index, size_t most_dims, size_t n, visit_fn *visit)
{
    size_t cases = 0;
    if (rows[index].traits & COSTLY && most_dims > MOST_COSTLY)
        most_dims = MOST_COSTLY;
    for (size_t k = 0; k < N_DIMS && dims[k] <= most_dims; k++)
        for (int g = 0; g < N_GUISES; g++) {
            subject s;
            if (!make_subject(&s, &rows[index], dims[k], (guise)g, n))
                continue;
            visit(&s, NF_FORWARD);
            visit(&s, NF_INVERSE);
            cases += 2;
            free_subject(&s);
        }
    cr_assert_gt(cases, 0, "%s was not tested at all", rows[index].name);
    return cases;
}

#endif
