#include "summary.h"
#include "baselines.h"
#include "cli.h"
#include "density.h"
#include "estimate.h"
#include "output.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_SCORED = 20000 /* training rows that are scored for comparison */ };

/* Log-likelihoods per row, in the data's units. */
static estimate score(const density *d, const rows *part, const double *weight, size_t most, uint64_t seed)
{
    rows raw = *part;
    raw.shift = raw.scale = NULL;
    if (raw.n > most)
        raw.n = most;
    double *log_p = cli_allocate(raw.n, sizeof *log_p);
    density_score(d, &raw, seed, log_p);
    const estimate e = weighted_mean_of(raw.n, log_p, weight);
    free(log_p);
    return raw.n > 1 ? e : (estimate){e.mean, NAN};
}

static void say_baseline(const char *what, baseline b)
{
    if (b.components == 1)
        printf("%s %.4f +- %.4f.\n", what, b.test.mean, b.test.se);
    else if (b.components)
        printf("%s %.4f +- %.4f with %zu components.\n", what, b.test.mean, b.test.se, b.components);
}

static void say_whether_it_still_improved(const fit_outcome *o)
{
    const nf_fit_report *r = &o->result->report;
    const learning_curve *c = &o->result->curve;
    const char *why = r->reason == NF_STOP_PATIENCE ? "no better validation came" : "its steps were made";
    if (o->interrupted)
        why = "it was interrupted";
    else if (!o->planned_steps)
        why = "its time was over";
    double before = -INFINITY, best = -INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        best = fmax(best, c->point[i].validation);
        if ((double)c->point[i].step <= 0.9 * (double)r->steps)
            before = fmax(before, c->point[i].validation);
    }
    printf("It stopped after %llu steps because %s; the best validation was after %llu.\n",
           (unsigned long long)r->steps, why, (unsigned long long)r->best_step);
    if (isfinite(before) && best - before > 0.01)
        printf("In the last tenth of the steps validation gained %.3f nats: a longer fit would probably be better.\n",
               best - before);
    else if (c->n > 1)
        printf("It no longer improved when it stopped.\n");
}

static void say_whether_it_over_fits(estimate train, estimate valid)
{
    const double gap = train.mean - valid.mean, se = hypot(train.se, valid.se);
    if (gap > 0.05 && gap > 3 * se)
        printf("It over-fits: training rows score %.3f nats better than validation rows. More rows, --dropout, --noise "
               "or a "
               "smaller --width help.\n",
               gap);
    else
        printf("It does not over-fit visibly: training rows score %.3f +- %.3f nats better than validation rows.\n",
               gap, se);
}

static void write_estimate(js_file *j, const char *name, estimate e)
{
    js_begin(j, name, '{');
    js_number(j, "mean", e.mean);
    js_number(j, "se", e.se);
    js_end(j);
}

void summarise(const fit_outcome *o)
{
    density d;
    density_load(&d, o->model_path, o->threads);
    const nf_fit_report *r = &o->result->report;
    const estimate test = score(&d, o->test, o->weight[2], SIZE_MAX, o->seed),
                   valid = score(&d, o->valid, o->weight[1], MOST_SCORED, o->seed),
                   train = score(&d, o->train, o->weight[0], MOST_SCORED, o->seed);
    printf("\n%s: %zu parameters, %.1f seconds.\n", o->family, nf_model_shape(d.m)->n_params, r->seconds);
    printf("Log-likelihood of a %s row: %.4f +- %.4f nats.\n", o->test_name, test.mean, test.se);
    const baseline_data data = {.train = o->train,
                                .valid = o->valid,
                                .test = o->test,
                                .weight = {o->weight[0], o->weight[1], o->weight[2]},
                                .threads = o->threads,
                                .seed = o->seed};
    const baseline gaussian = o->baselines ? baseline_of(&data, 1) : (baseline){0},
                   mixture = o->baselines ? baseline_of(&data, 0) : (baseline){0};
    say_baseline("A normal with full covariance reaches", gaussian);
    say_baseline("A mixture of such normals reaches", mixture);
    say_whether_it_still_improved(o);
    if (o->held_back)
        say_whether_it_over_fits(train, valid);
    if (r->warnings & NF_WARN_SKIPPED)
        printf("%llu steps were left out, since their loss or gradient was not finite.\n",
               (unsigned long long)r->skipped);
    if (r->warnings & NF_WARN_SCORES)
        printf("One row dominates the mean: row %llu of the validation, with a score of %.4g.\n",
               (unsigned long long)r->worst_row + 1, -r->worst_loss);
    js_file *j = js_open(o->json_path);
    js_begin(j, NULL, '{');
    js_text(j, "family", o->family);
    js_integer(j, "parameters", nf_model_shape(d.m)->n_params);
    js_integer(j, "steps", r->steps);
    js_integer(j, "best_step", r->best_step);
    js_number(j, "seconds", r->seconds);
    js_text(j, "stopped",
            o->interrupted                  ? "interrupted"
            : r->reason == NF_STOP_PATIENCE ? "patience"
            : o->planned_steps              ? "steps"
                                            : "time");
    write_estimate(j, "test", test);
    write_estimate(j, "validation", valid);
    write_estimate(j, "train", train);
    if (gaussian.components)
        write_estimate(j, "gaussian", gaussian.test);
    if (mixture.components)
        write_estimate(j, "mixture", mixture.test);
    learning_curve_write(&o->result->curve, j, "curve");
    js_end(j);
    js_close(j);
    density_free(&d);
}
