#include "long_fit.h"
#include "cli.h"
#include <math.h>
#include <unistd.h>

typedef struct state {
    const long_fit_options *how;
    learning_curve *curve;
    uint64_t every; /* steps between validations */
    double first;   /* what was done before this run, from 0 to 1 */
    double seconds; /* of the whole fit up to the last step */
} state;

/* How much of the fit is done after so many steps, from 0 to 1. */
static double share(const state *s, uint64_t step)
{
    return s->how->steps ? (double)step / (double)s->how->steps : s->seconds / (60 * s->how->minutes);
}

static double rate_factor(void *user, uint64_t step)
{
    const state *s = user;
    const double rise = step < s->how->warm_up ? ((double)step + 1) / (double)s->how->warm_up : 1;
    return rise * 0.5 * (1 + cos(3.14159265358979 * fmin(share(s, step), 1)));
}

static double figure(const state *s, double loss)
{
    return s->how->factor * loss + s->how->offset;
}

/* Adds a point unless the curve is that long. */
static void add_point(const state *s, uint64_t step, double seconds, double loss, double validation)
{
    const learning_curve *c = s->curve;
    if (step <= (c->n ? c->point[c->n - 1].step : 0))
        return;
    learning_curve_add(s->curve, (learning_point){step, seconds, figure(s, loss), figure(s, validation)});
}

static int on_step(void *user, const nf_progress *p)
{
    state *s = user;
    s->seconds = p->seconds;
    const double done = share(s, p->step);
    cli_progress(s->how->what, done - s->first, 1 - s->first, "step %llu: %.3f %s, validation %.3f",
                 (unsigned long long)p->step, figure(s, p->loss), s->how->figure, figure(s, p->validation));
    add_point(s, (p->step - 1) / s->every * s->every, p->seconds, p->loss, p->validation);
    return cli_interrupted || done >= 1;
}

nf_fit_report long_fit(nf_objective *o, const nf_fit_options *fit, const long_fit_options *how, learning_curve *c)
{
    const uint64_t forever = 1000000000000;
    state s = {.how = how, .curve = c, .every = fit->validate_every};
    nf_fit_options all = *fit;
    all.steps = NF_NONE; /* each run says how many */
    all.schedule = (nf_schedule){.kind = NF_CUSTOM, .call = rate_factor, .user = &s};
    all.callback = on_step;
    all.user = &s;
    all.checkpoint = how->checkpoint;
    nf_fitter *f = cli_made(nf_fitter_new(o, &all));
    nf_fit_report r = {0};
    const bool earlier = access(how->checkpoint, F_OK) == 0;
    if (earlier && !how->resume)
        cli_fail(1, "%s is of an earlier run: give --resume to continue it, or remove it", how->checkpoint);
    if (earlier) {
        cli_ok(nf_fitter_load(f, how->checkpoint));
        cli_ok(nf_fitter_run(f, 0, &r)); /* no step: it reports those of the checkpoint */
    }
    s.seconds = r.seconds;
    s.first = share(&s, r.steps);
    learning_curve_begin(c, how->curve, r.steps, how->title);
    if (s.first < 1)
        cli_ok(nf_fitter_run(f, (how->steps ? how->steps : forever) - r.steps, &r));
    cli_progress_clear();
    if (share(&s, r.steps) >= 1 && r.best_step == r.steps)
        add_point(&s, r.steps, r.seconds, r.loss, r.best);
    nf_fitter_free(f);
    return r;
}
