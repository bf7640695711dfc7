/*
 * Whether values still improve. With the means A of the last quarter of all steps but one and B of the last quarter,
 * both of q blocks with the variances s^2 of blocks within a quarter,
 *
 *     gain = B - A,   error^2 = (s_A^2 + s_B^2) / q.
 *
 * Values of steps that follow one another are not independent: parameters drift. Their blocks nearly are, and grow with
 * the number of steps: when all are full, two and two become one.
 */
#include <math.h>
#include <nflow/convergence.h>

enum { LEAST_STEPS = 100, LEAST_QUARTER = 4 };

static void merge(nf_convergence *c)
{
    for (size_t k = 0; k < NF_CONVERGENCE_BLOCKS / 2; k++)
        c->mean[k] = (c->mean[2 * k] + c->mean[2 * k + 1]) / 2;
    c->n_blocks = NF_CONVERGENCE_BLOCKS / 2;
    c->per_block *= 2;
}

/* The mean of n blocks; *variance: theirs. */
static double mean_of(size_t n, const double *block, double *variance)
{
    double mean = 0, square = 0;
    for (size_t k = 0; k < n; k++)
        mean += block[k] / (double)n;
    for (size_t k = 0; k < n; k++)
        square += (block[k] - mean) * (block[k] - mean);
    *variance = square / (double)(n - 1);
    return mean;
}

static void compare(nf_convergence *c)
{
    const size_t q = c->n_blocks / 4;
    if (q < LEAST_QUARTER)
        return;
    double before, after;
    const double a = mean_of(q, c->mean + c->n_blocks - 2 * q, &before);
    const double b = mean_of(q, c->mean + c->n_blocks - q, &after);
    c->gain = b - a;
    c->error = sqrt((before + after) / (double)q);
    const double tolerance = c->tolerance == 0 ? 0.005 : c->tolerance;
    if (c->steps >= (c->least ? c->least : LEAST_STEPS) && c->gain < tolerance && c->error < tolerance)
        c->settled = true;
}

bool nf_convergence_add(nf_convergence *c, double value)
{
    if (!c)
        return false;
    if (c->n_blocks == 0)
        c->gain = c->error = NAN;
    if (c->per_block == 0)
        c->per_block = 1;
    c->steps++;
    if (!isfinite(value)) {
        c->n_blocks = 0;
        c->in_block = 0;
        c->sum = 0;
        return c->settled;
    }
    c->sum += value;
    if (++c->in_block < c->per_block)
        return c->settled;
    c->mean[c->n_blocks++] = c->sum / (double)c->per_block;
    c->sum = 0;
    c->in_block = 0;
    compare(c);
    if (c->n_blocks == NF_CONVERGENCE_BLOCKS)
        merge(c);
    return c->settled;
}
