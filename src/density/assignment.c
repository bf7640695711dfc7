/* Shortest augmenting paths for the assignment problem, O(n^3) (Jonker & Volgenant, Computing 38, 1987). With prices
   u_i, v_j for which all reduced costs c_ij - u_i - v_j are at least 0, pairs whose reduced costs are 0 are optimal. At
   first v_j is the least cost in column j, which goes to the row of that cost if the row is still free. Each row that
   is left over then searches, by Dijkstra's rule, the shortest path in reduced costs to a free column; rows and columns
   of the path change partners, and the prices move so that no reduced cost becomes negative. */
#include "density/assignment.h"
#include "base/memory.h"
#include <math.h>
#include <stdint.h>

static const size_t none = SIZE_MAX;

nf_status nfi_assignment_begin(nfi_assignment *a, size_t n)
{
    size_t squares;
    *a = (nfi_assignment){.n = n};
    if (!nfi_mul(n, n, &squares) || !(a->cost = nfi_calloc(squares, sizeof *a->cost)) ||
        !(a->u = nfi_calloc(n, 4 * sizeof *a->u)) || !(a->column = nfi_calloc(n, 3 * sizeof *a->column))) {
        nfi_assignment_end(a);
        return nf_error(NF_ENOMEM, "out of memory: an assignment of %zu rows", n);
    }
    a->v = a->u + n;
    a->distance = a->v + n;
    a->done = a->distance + n;
    a->row = a->column + n;
    a->from = a->row + n;
    return NF_OK;
}

void nfi_assignment_end(nfi_assignment *a)
{
    nfi_free(a->cost);
    nfi_free(a->u);
    nfi_free(a->column);
    *a = (nfi_assignment){.n = 0};
}

/* The first prices and pairs. */
static void reduce_columns(nfi_assignment *a)
{
    const size_t n = a->n;
    for (size_t j = 0; j < n; j++) {
        a->v[j] = a->cost[j];
        a->from[j] = 0;
        a->column[j] = a->row[j] = none;
    }
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (a->cost[i * n + j] < a->v[j]) {
                a->v[j] = a->cost[i * n + j];
                a->from[j] = i;
            }
    for (size_t j = 0; j < n; j++)
        if (a->column[a->from[j]] == none) {
            a->row[j] = a->from[j];
            a->column[a->from[j]] = j;
        }
}

/* Finds the free column that is nearest to row `start`, and moves the prices. Each turn is done with one column more,
   the nearest of those that are left, and looks through its row for shorter ways to the others. */
static size_t shortest_path(nfi_assignment *a, size_t start)
{
    const size_t n = a->n;
    for (size_t j = 0; j < n; j++) {
        a->distance[j] = INFINITY;
        a->done[j] = 0;
    }
    for (size_t i = start, nearest = none;; i = a->row[nearest]) {
        const double *cost = a->cost + i * n;
        const double before = nearest == none ? 0 : cost[nearest] - a->v[nearest] - a->distance[nearest];
        const double least = nfi_assignment_relax(n, cost, a->v, before, i, a->done, a->distance, a->from);
        nearest = nfi_assignment_nearest(n, a->done, a->distance, least);
        if (a->row[nearest] == none) {
            for (size_t j = 0; j < n; j++)
                a->v[j] += a->done[j] > 0 ? a->distance[j] - least : 0;
            return nearest;
        }
        a->done[nearest] = INFINITY;
    }
}

void nfi_assignment_solve(nfi_assignment *a)
{
    reduce_columns(a);
    for (size_t start = 0; start < a->n; start++) {
        if (a->column[start] != none)
            continue;
        size_t i, j = shortest_path(a, start);
        do { /* back along the path */
            i = a->from[j];
            a->row[j] = i;
            const size_t before = a->column[i];
            a->column[i] = j;
            j = before;
        } while (i != start);
    }
    for (size_t i = 0; i < a->n; i++)
        a->u[i] = a->cost[i * a->n + a->column[i]] - a->v[a->column[i]];
}
