/*
 * Paths to modes, by L-BFGS (Liu & Nocedal 1989) of liblbfgs with a backtracking line search. A point that the target
 * rejects counts as infinitely bad, so that the line search turns back before it.
 */
#include "vi/path.h"
#include "base/memory.h"
#include <lbfgs.h>
#include <math.h>
#include <string.h>

enum {
    PAIRS = 20,       /* L-BFGS remembers so many steps */
    LINE_SEARCH = 30, /* so many points are tried in one step */
    STEPS = 10        /* the path ends if so many steps gain less than GAIN nats together */
};
static const double GAIN = 1e-4;

nf_status nfi_path_begin(nfi_path *p, size_t d, size_t iterations)
{
    size_t room = iterations + 1, width, count;
    *p = (nfi_path){.d = d, .room = room};
    if (!nfi_mul(d, 2, &width) || !nfi_mul(room, width + 1, &count) || !nfi_add(count, d, &count) || d > INT32_MAX)
        return nf_error(NF_ENOMEM, "out of memory: %zu points in %zu dimensions", room, d);
    p->memory = nfi_calloc(count, sizeof *p->memory);
    if (!p->memory)
        return NF_ENOMEM;
    p->x = p->memory;
    p->g = p->x + room * d;
    p->log_p = p->g + room * d;
    return NF_OK;
}

void nfi_path_end(nfi_path *p)
{
    nfi_free(p->memory);
    *p = (nfi_path){0};
}

typedef struct climb {
    nfi_path *path;
    const nf_target *target;
    nf_status status; /* of the target; after an error it is not asked again */
} climb;

/* log p and its gradient; false if either is not finite, or after an error. */
static bool ask(climb *c, const double *x, double *log_p, double *g)
{
    unsigned char rejected = 0;
    if (!c->status)
        c->status = nfi_target_draws(c->target, 0, 1, x, log_p, g, &rejected);
    if (c->status || rejected || !isfinite(*log_p))
        return false;
    for (size_t j = 0; j < c->path->d; j++)
        if (!isfinite(g[j]))
            return false;
    return true;
}

/* An lbfgs_evaluate_t: -log p, which is minimised. */
static lbfgsfloatval_t minus_log_p(void *user, const lbfgsfloatval_t *x, lbfgsfloatval_t *g, int n,
                                   lbfgsfloatval_t step)
{
    (void)step;
    double log_p;
    if (!ask(user, x, &log_p, g)) {
        memset(g, 0, (size_t)n * sizeof *g);
        return INFINITY;
    }
    for (int j = 0; j < n; j++)
        g[j] = -g[j];
    return -log_p;
}

static void add_point(nfi_path *p, const double *x, const double *g, double sign, double log_p)
{
    memcpy(p->x + p->n * p->d, x, p->d * sizeof *x);
    for (size_t j = 0; j < p->d; j++)
        p->g[p->n * p->d + j] = sign * g[j];
    p->log_p[p->n++] = log_p;
}

/* An lbfgs_progress_t: called after each step. */
static int keep_point(void *user, const lbfgsfloatval_t *x, const lbfgsfloatval_t *g, lbfgsfloatval_t fx,
                      lbfgsfloatval_t norm_x, lbfgsfloatval_t norm_g, lbfgsfloatval_t step, int n, int k, int tried)
{
    (void)norm_x, (void)norm_g, (void)step, (void)n, (void)k, (void)tried;
    const climb *c = user;
    if (c->status)
        return 1;
    nfi_path *p = c->path;
    add_point(p, x, g, -1, -fx);
    return p->n == p->room || (p->n > STEPS && !(p->log_p[p->n - 1] - p->log_p[p->n - 1 - STEPS] > GAIN));
}

nf_status nfi_path_climb(nfi_path *p, const nf_target *t, const double *x0)
{
    climb c = {.path = p, .target = t};
    double log_p, *x = p->log_p + p->room; /* [d], where liblbfgs moves */
    p->n = 0;
    if (!ask(&c, x0, &log_p, p->g))
        return c.status;
    memcpy(p->x, x0, p->d * sizeof *x0);
    p->log_p[p->n++] = log_p;
    lbfgs_parameter_t how;
    lbfgs_parameter_init(&how);
    how.m = PAIRS;
    how.linesearch = LBFGS_LINESEARCH_BACKTRACKING_STRONG_WOLFE;
    how.max_linesearch = LINE_SEARCH;
    how.max_iterations = (int)p->room - 1;
    how.epsilon = 1e-6;
    memcpy(x, x0, p->d * sizeof *x0);
    lbfgsfloatval_t last;
    if (p->room > 1 && lbfgs((int)p->d, x, &last, minus_log_p, keep_point, &c, &how) == LBFGSERR_OUTOFMEMORY)
        return nf_error(NF_ENOMEM, "out of memory: liblbfgs");
    return c.status;
}
