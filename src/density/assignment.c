/* Shortest augmenting paths for the assignment problem, O(n^3) (Jonker & Volgenant, Computing 38, 1987). With prices
   u_i, v_j for which all reduced costs c_ij - u_i - v_j are at least 0, pairs whose reduced costs are 0 are optimal. At
   first v_j is the least cost in column j, which goes to the row of that cost if the row is still free. Each row that
   is left over then searches, by Dijkstra's rule, the shortest path in reduced costs to a free column; rows and columns
   of the path change partners, and the prices move so that no reduced cost becomes negative. */
#include "density/assignment.h"
#include "base/memory.h"
#include <stdint.h>

static const size_t none = SIZE_MAX;

nf_status nfi_assignment_begin(nfi_assignment *a, size_t n)
{
    size_t squares;
    *a = (nfi_assignment){.n = n};
    if (!nfi_mul(n, n, &squares) || !(a->cost = nfi_calloc(squares, sizeof *a->cost)) ||
        !(a->u = nfi_calloc(n, 3 * sizeof *a->u)) || !(a->column = nfi_calloc(n, 4 * sizeof *a->column))) {
        nfi_assignment_end(a);
        return nf_error(NF_ENOMEM, "out of memory: an assignment of %zu rows", n);
    }
    a->v = a->u + n;
    a->distance = a->v + n;
    a->row = a->column + n;
    a->from = a->row + n;
    a->order = a->from + n;
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

static void swap(size_t *a, size_t *b)
{
    const size_t was = *a;
    *a = *b;
    *b = was;
}

/* Moves those of the columns order[at ..] that have the least distance to their front; returns their end. */
static size_t nearest(nfi_assignment *a, size_t at)
{
    size_t end = at + 1;
    for (size_t k = at + 1; k < a->n; k++) {
        const double d = a->distance[a->order[k]], least = a->distance[a->order[at]];
        if (d > least)
            continue;
        end = d < least ? at : end;
        swap(&a->order[k], &a->order[end++]);
    }
    return end;
}

/* Finds the free column that is nearest to row `start`, and moves the prices. order[] has first the columns whose rows
   have been looked at, up to `done`, then those at the present distance, up to `end`, then all others. */
static size_t shortest_path(nfi_assignment *a, size_t start)
{
    const size_t n = a->n;
    size_t done = 0, end = 0, nearer = 0, found = none;
    double least = 0;
    for (size_t j = 0; j < n; j++) {
        a->order[j] = j;
        a->distance[j] = a->cost[start * n + j] - a->v[j];
        a->from[j] = start;
    }
    while (found == none) {
        if (done == end) {
            nearer = done;
            end = nearest(a, done);
            least = a->distance[a->order[done]];
            for (size_t k = done; k < end && found == none; k++)
                found = a->row[a->order[k]] == none ? a->order[k] : none;
            continue;
        }
        const size_t through = a->order[done++], i = a->row[through];
        const double *cost = a->cost + i * n, shift = cost[through] - a->v[through] - least;
        for (size_t k = end; k < n && found == none; k++) {
            const size_t j = a->order[k];
            const double d = cost[j] - a->v[j] - shift;
            if (!(d < a->distance[j]))
                continue;
            a->distance[j] = d;
            a->from[j] = i;
            if (d > least)
                continue;
            if (a->row[j] == none)
                found = j;
            swap(&a->order[k], &a->order[end++]);
        }
    }
    for (size_t k = 0; k < nearer; k++)
        a->v[a->order[k]] += a->distance[a->order[k]] - least;
    return found;
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
            swap(&a->column[i], &j);
        } while (i != start);
    }
    for (size_t i = 0; i < a->n; i++)
        a->u[i] = a->cost[i * a->n + a->column[i]] - a->v[a->column[i]];
}
