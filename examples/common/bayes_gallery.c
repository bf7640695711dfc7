#include "bayes_gallery.h"
#include "bayes_fit.h"
#include "chain_reference.h"
#include "cli.h"
#include "fewer_colours.h"
#include "output.h"
#include "overlay.h"
#include <stdlib.h>
#include <string.h>

/* A model, what the sheet calls it, the outputs of its picture, and two of these, right and up, for the sheet. */
typedef struct exhibit {
    const char *model, *title, *outputs, *pair[2];
} exhibit;
static const exhibit exhibits[] = {
    {"eight_schools_centered", "eight schools, centred", "theta.1 theta.3 theta.7 mu tau", {"theta.1", "tau"}},
    {"eight_schools_noncentered", "eight schools, non-centred", "theta.1 theta.3 theta.7 mu tau", {"mu", "tau"}},
    {"german_credit",
     "German credit, logistic",
     "beta.1 beta.2 beta.3 beta.4 beta.21 beta.22 beta.24 beta.25",
     {"beta.21", "beta.22"}},
    {"arK", "autoregression, AR(5)", NULL, {"beta.1", "beta.2"}},
    {"garch11", "GARCH(1, 1)", NULL, {"alpha0", "beta1"}},
    {"hmm_example", "hidden Markov model", NULL, {"theta1.1", "theta2.2"}},
    {"lotka_volterra", "Lotka-Volterra equations", NULL, {"theta.1", "theta.4"}},
    {"low_dim_gauss_mix", "mixture of two normals", NULL, {"mu.1", "theta"}},
    {"gp_regr", "Gaussian process", NULL, {"rho", "alpha"}},
};
enum { EXHIBITS = sizeof exhibits / sizeof *exhibits, COLUMNS = 3, SHOWN = 10000 };

/* What the sheet keeps of a fit. */
typedef struct kept {
    const exhibit *of;
    double *reference, *draws; /* [.. x 2]; NULL: the fit was stopped */
    size_t n_reference, n_draws;
} kept;

static kept keep(const bayes_fit *f, const exhibit *e)
{
    kept k = {.of = e, .n_reference = f->reference.n, .n_draws = f->result.draws.n};
    size_t output[2], from[2];
    for (size_t j = 0; j < 2; j++) {
        from[j] = reference_column(&f->reference, e->pair[j]);
        output[j] = bayes_fit_output(f, e->pair[j]);
        if (from[j] == f->reference.k || output[j] == f->result.draws.n_outputs)
            cli_fail(1, "%s has no output %s to show", e->model, e->pair[j]);
    }
    k.draws = bayes_fit_draws(f, k.n_draws, 2, output);
    k.reference = cli_allocate(k.n_reference, 2 * sizeof *k.reference);
    for (size_t i = 0; i < k.n_reference; i++)
        for (size_t j = 0; j < 2; j++)
            k.reference[2 * i + j] = f->reference.x[i * f->reference.k + from[j]];
    return k;
}

static void draw_sheet(const char *path, size_t n, const kept *all)
{
    enum { SIDE = 210, LEFT = 62, BELOW = 44, ABOVE = 22, EDGE = 6 };
    const size_t columns = n < COLUMNS ? n : COLUMNS, rows = (n + columns - 1) / columns;
    canvas c = {.width = (double)columns * (LEFT + SIDE) + EDGE, .height = (double)rows * (BELOW + SIDE + ABOVE)};
    c.plot = plot_open(path, (int)c.width, (int)c.height);
    fputs("set multiplot\nset border lc rgb '#888888'\n", c.plot);
    for (size_t i = 0; i < n; i++) {
        const exhibit *e = all[i].of;
        const box b = {LEFT + (double)(i % columns) * (LEFT + SIDE),
                       BELOW + (double)(rows - 1 - i / columns) * (BELOW + SIDE + ABOVE), SIDE, SIDE};
        overlay_text(c, b.left, b.bottom + SIDE + 10, 10, "black", "left", e->title);
        overlay_text(c, b.left + SIDE / 2, b.bottom - 32, 9, "black", "center", e->pair[0]);
        overlay_text(c, b.left - 50, b.bottom + SIDE / 2, 9, "black", "center rotate", e->pair[1]);
        overlay_panel(c, b, &(shown){all[i].n_reference, 2, all[i].reference},
                      &(shown){all[i].n_draws, 2, all[i].draws}, 0, 1, true, true);
        fputs("unset label\n", c.plot);
    }
    fputs("unset multiplot\n", c.plot);
    plot_close(c.plot);
}

static kept show(const char *folder, const exhibit *e, const char *data, const nf_vi_options *options)
{
    bayes_fit f;
    kept k = {.of = e};
    bayes_fit_make(&f, cli_made((void *)bayes_find(e->model)), data, options);
    if (!f.result.stopped) {
        const double r_hat = f.has_gate ? 0 : chain_reference(&f, options->seed);
        bayes_fit_line(&f);
        if (r_hat > 0)
            printf("%-26s its reference draws are chains by HMC in the fit's coordinates; worst R-hat %.3f\n", "",
                   r_hat);
        char *path = cli_text("%s/%s.png", folder, e->model);
        bayes_fit_plot(&f, path, e->outputs);
        fewer_colours(path);
        free(path);
        k = keep(&f, e);
    }
    bayes_fit_free(&f);
    return k;
}

/* The exhibits of these models, in the sheet's order. Returns how many; without names all of them. */
static size_t choose(size_t n_names, char *const *name, const exhibit **chosen)
{
    size_t n = 0;
    for (size_t k = 0; k < n_names; k++) {
        bool known = false;
        for (size_t i = 0; i < EXHIBITS; i++)
            known = known || strcmp(name[k], exhibits[i].model) == 0;
        if (!known)
            cli_fail(2, "there is no picture of %s: it has no reference draws", name[k]);
    }
    for (size_t i = 0; i < EXHIBITS; i++) {
        bool wanted = n_names == 0;
        for (size_t k = 0; k < n_names; k++)
            wanted = wanted || strcmp(name[k], exhibits[i].model) == 0;
        if (wanted)
            chosen[n++] = &exhibits[i];
    }
    return n;
}

void bayes_gallery(const char *folder, size_t n_names, char *const *name, const char *data,
                   const nf_vi_options *options)
{
    const exhibit *chosen[EXHIBITS];
    kept all[EXHIBITS] = {{.of = NULL}};
    const size_t n = choose(n_names, name, chosen);
    size_t done = 0;
    char *first = cli_text("%s/%s.png", folder, chosen[0]->model);
    cli_writable(first);
    free(first);
    nf_vi_options o = *options;
    o.judge.n = SHOWN;
    bayes_fit_head();
    while (done < n && !cli_interrupted) {
        all[done] = show(folder, chosen[done], data, &o);
        done += all[done].draws != NULL;
    }
    if (n > 1 && done == n) {
        char *path = cli_text("%s/posteriors.png", folder);
        draw_sheet(path, n, all);
        fewer_colours(path);
        free(path);
    }
    for (size_t i = 0; i < n; i++) {
        free(all[i].reference);
        free(all[i].draws);
    }
}
