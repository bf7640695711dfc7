/* Conformance of densities: they integrate to 1, over a box around the image of a ball that holds the base's mass. */
#ifndef CONFORMANCE_QUADRATURE_H
#define CONFORMANCE_QUADRATURE_H
#include "suite.h"
#include <gsl/gsl_integration.h>

/* Density of the flow of a standard normal at the points, all with the first context. */
static void density(const subject *s, nf_direction d, size_t n, const nf_real *y, nf_real *ctx, double *p)
{
    nf_real *z = reals(n * s->dim);
    for (size_t i = 0; i < n * s->n_ctx; i++)
        ctx[i] = s->ctx[i % s->n_ctx];
    run(s, d == NF_FORWARD ? NF_INVERSE : NF_FORWARD, n, y, ctx, z, p);
    for (size_t i = 0; i < n; i++) {
        const double r2 = dot(s->dim, z + i * s->dim, z + i * s->dim);
        p[i] = exp(p[i] - r2 / 2 - (double)s->dim * log(sqrt(2 * M_PI)));
    }
    free(z);
}

/* Box around the images of a sphere of radius r. */
static void image_box(const subject *s, nf_direction d, double r, double low[2], double high[2])
{
    enum { AROUND = 720 };
    nf_real *z = reals(AROUND * 2), *y = reals(AROUND * 2), *ctx = reals(AROUND * s->n_ctx);
    for (size_t i = 0; i < AROUND; i++) {
        const double angle = 2 * M_PI * (double)i / AROUND;
        z[i * s->dim] = (nf_real)(r * cos(angle));
        if (s->dim == 2)
            z[i * 2 + 1] = (nf_real)(r * sin(angle));
    }
    for (size_t i = 0; i < AROUND * s->n_ctx; i++)
        ctx[i] = s->ctx[i % s->n_ctx];
    run(s, d, AROUND, z, ctx, y, NULL);
    for (size_t k = 0; k < s->dim; k++) {
        low[k] = high[k] = (double)y[k];
        for (size_t i = 0; i < AROUND; i++) {
            low[k] = fmin(low[k], (double)y[i * s->dim + k]);
            high[k] = fmax(high[k], (double)y[i * s->dim + k]);
        }
    }
    free(z), free(y), free(ctx);
}

/* A part of the box, the product rule's value there, and what halving changed in the cell that this one is part of. */
typedef struct cell {
    double low[2], width[2], value, change;
} cell;

enum { NODES = 8, AT_ONCE = 256, MOST_HALVINGS = 20 };
/* By roughness and dimension: coarser cells agree by chance now and then. */
static const size_t fewest_halvings[2][3] = {{0, 8, 4}, {0, 9, 5}};

/* Gauss-Legendre on [0, 1]. */
typedef struct rule {
    double at[NODES], weight[NODES];
} rule;

static rule make_rule(void)
{
    rule r;
    gsl_integration_glfixed_table *table = gsl_integration_glfixed_table_alloc(NODES);
    for (size_t i = 0; i < NODES; i++)
        gsl_integration_glfixed_point(0, 1, i, &r.at[i], &r.weight[i], table);
    gsl_integration_glfixed_table_free(table);
    return r;
}

/* Values of up to AT_ONCE cells. */
static void integrate_cells(const subject *s, nf_direction d, const rule *r, size_t n_cells, cell *cells)
{
    const size_t n = s->dim == 1 ? NODES : NODES * NODES;
    nf_real *y = reals(n_cells * n * s->dim), *ctx = reals(n_cells * n * s->n_ctx);
    double *p = calloc(n_cells * n, sizeof *p);
    for (int pass = 0; pass < 2; pass++) { /* points, then sums */
        for (size_t i = 0; i < n_cells * n; i++) {
            cell *c = cells + i / n;
            double weight = 1;
            for (size_t k = 0; k < s->dim; k++) {
                const size_t node = k ? i % n / NODES : i % NODES;
                weight *= r->weight[node] * c->width[k];
                y[i * s->dim + k] = (nf_real)(c->low[k] + r->at[node] * c->width[k]);
            }
            c->value = pass && i % n ? c->value + weight * p[i] : pass ? weight * p[i] : 0;
        }
        if (!pass)
            density(s, d, n_cells * n, y, ctx, p);
    }
    free(y), free(ctx), free(p);
}

/* Cells are halved in every dimension until that changes nothing, level by level: many cells in one call. Where a kink
   cuts a cell the change may be small by chance; so the one before must have been, too. */
static double adaptive(const subject *s, nf_direction d, const cell *box, double tolerance)
{
    const rule r = make_rule();
    const size_t parts = (size_t)1 << s->dim, fewest = fewest_halvings[(s->row->traits & ROUGH) != 0][s->dim];
    cell *parents = malloc(sizeof *parents);
    double sum = 0;
    parents[0] = *box;
    for (size_t n = 1, level = 0, n_kept = 0; n; n = n_kept, level++, n_kept = 0) {
        cell *children = malloc(n * parts * sizeof *children);
        for (size_t i = 0; i < n * parts; i++) {
            children[i] = parents[i / parts];
            for (size_t k = 0; k < s->dim; k++) {
                children[i].width[k] /= 2;
                children[i].low[k] += i % parts >> k & 1 ? children[i].width[k] : 0;
            }
        }
        for (size_t i = 0; i < n * parts; i += AT_ONCE)
            integrate_cells(s, d, &r, n * parts - i < AT_ONCE ? n * parts - i : AT_ONCE, children + i);
        for (size_t i = 0; i < n; i++) {
            double fine = 0;
            for (size_t c = 0; c < parts; c++)
                fine += children[i * parts + c].value;
            const double change = fabs(fine - parents[i].value);
            const bool settled = change < tolerance && parents[i].change < 100 * tolerance;
            if (level >= fewest && (settled || level >= MOST_HALVINGS)) {
                sum += fine;
                continue;
            }
            for (size_t c = 0; c < parts; c++) { /* n_kept is never ahead of what is read */
                children[n_kept] = children[i * parts + c];
                children[n_kept++].change = change;
            }
        }
        free(parents);
        parents = children;
    }
    free(parents);
    return sum;
}

static void quadrature(const subject *s, nf_direction d)
{
    /* Cells along the kinks of a density take their time, and part of a context is like the whole of one. */
    if ((s->row->traits & ROUGH) && s->dim > 1 && s->guise == ON_CONTEXT) {
        n_skipped++;
        return;
    }
    /* A normal does not fit into a constraint's set, nor quadrature into a surface. */
    if ((s->chart && (d == NF_INVERSE || s->chart->coordinates)) || s->rows[0] != s->dim) {
        n_skipped++;
        return;
    }
    double low[2] = {0, 0}, high[2] = {1, 1};
    image_box(s, d, 6.5, low, high);
    const cell box = {{low[0], low[1]}, {high[0] - low[0], high[1] - low[1]}, INFINITY, INFINITY};
    const double sum = adaptive(s, d, &box, is_double ? 4e-9 : 1e-6);
    cr_assert_float_eq(sum, 1, is_double ? 1e-6 : 1e-4, "%s: the density integrates to %.10g", title(s, d), sum);
}
PROPERTY(quadrature, 2, 1)

#endif
