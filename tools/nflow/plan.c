/* The numbers were found on real tables of 400 to 37000 rows for training; docs/nflow.md has the measurements. */
#include "plan.h"
#include <math.h>

static size_t pick(size_t given, size_t own)
{
    return given ? given : own;
}

static double pick_number(double given, double own)
{
    return isnan(given) ? own : given;
}

/* Autoregressive splines fit better, couplings cost less where there are many features. */
static flow_family best_family(const flow_sizes *s)
{
    if (s->image.channels)
        return FLOW_GLOW;
    return s->dim <= 64 ? FLOW_NSF_AUTOREGRESSIVE : FLOW_NSF_COUPLING;
}

static size_t layers_of(flow_family f, size_t n)
{
    switch (f) {
    case FLOW_PLANAR:
    case FLOW_RADIAL:
        return 32;
    case FLOW_SYLVESTER:
        return 8;
    case FLOW_NICE:
    case FLOW_REALNVP:
        return 10;
    case FLOW_RESIDUAL:
        return 10;
    case FLOW_MADE:
    case FLOW_FFJORD:
        return 1;
    case FLOW_GLOW:
        return 8;
    case FLOW_REALNVP_IMAGE:
        return 3;
    default:
        return n < 2000 ? 3 : n < 20000 ? 5 : 8;
    }
}

static size_t width_of(flow_family f, size_t n, size_t dim)
{
    if (f == FLOW_GLOW)
        return 64;
    if (f == FLOW_REALNVP_IMAGE)
        return 32;
    if (f == FLOW_FFJORD || f == FLOW_RESIDUAL)
        return n < 2000 ? 32 : 64;
    /* Wide nets with strong decay do better than narrow ones; it is strong with many columns. */
    const bool wide = n >= 5000 || (n >= 1000 && dim >= 32);
    const size_t width = n < 300 ? 32 : wide ? 256 : 128;
    const bool masked = f == FLOW_MADE || f == FLOW_MAF || f == FLOW_IAF || f == FLOW_NSF_AUTOREGRESSIVE;
    return masked && width < dim ? dim : width; /* masked nets have a unit of each degree at least */
}

static void complete_sizes(flow_sizes *s, size_t n)
{
    if (s->family == FLOW_AUTO)
        s->family = best_family(s);
    const bool splines = s->family == FLOW_NSF_AUTOREGRESSIVE || s->family == FLOW_NSF_COUPLING;
    s->layers = pick(s->layers, layers_of(s->family, n));
    s->width = pick(s->width, width_of(s->family, n, s->dim));
    if (splines && !s->depth)
        s->blocks = pick(s->blocks, 2);
    if (s->family == FLOW_REALNVP_IMAGE)
        s->blocks = pick(s->blocks, 4);
    s->depth = pick(s->depth, s->family == FLOW_FFJORD || s->family == FLOW_MATCHING ? 3 : 2);
    s->bins = pick(s->bins, n < 20000 ? 8 : 16);
    s->box = s->box > 0 ? s->box : 5;
    s->dropout = pick_number(s->dropout, n < 5000 ? 0.3 : n < 20000 ? 0.2 : n < 60000 ? 0.15 : n < 200000 ? 0.1 : 0);
}

/* Once an epoch, 40 times a fit at least, but never so often that validation, which costs a third of a step for each of
   its rows, takes more than a tenth of the time. */
static uint64_t validation_interval(const plan *p, double epoch, size_t n_valid)
{
    const double often = fmin(fmax(epoch, 50), (double)p->steps / 40), cheap = 3.3 * (double)n_valid / (double)p->batch;
    return (uint64_t)fmin(fmax(fmax(often, cheap), 1), (double)p->steps);
}

void plan_complete(plan *p, size_t n, size_t n_valid)
{
    complete_sizes(&p->sizes, n);
    p->batch = pick(p->batch, n < 2000 ? 64 : n < 20000 ? 128 : 256);
    if (p->batch > n)
        p->batch = n;
    const double epoch = ceil((double)n / (double)p->batch);
    if (!p->steps)
        p->steps = (uint64_t)fmin(fmax(epoch * (n < 20000 ? 100 : 140), 4000), 20000);
    p->warm_up = p->steps / 50 < 200 ? p->steps / 50 : 200;
    if (!p->validate_every)
        p->validate_every = validation_interval(p, epoch, n_valid);
    p->rate = p->rate > 0 ? p->rate : p->sizes.family == FLOW_PLANAR || p->sizes.family == FLOW_RADIAL ? 0.005 : 0.001;
    p->clip = p->clip > 0 ? p->clip : 5 * sqrt((double)p->sizes.dim);
    p->average = p->average > 0 ? p->average : 0.99;
    const double decay = 100 * (double)p->sizes.dim / (double)n;
    p->weight_decay = pick_number(p->weight_decay, decay < 0.05 ? 0 : fmin(decay, 5));
    p->noise = pick_number(p->noise, 0);
}
