/*
 * Anomalies by their density: a flow learns images of all classes but one, and whatever it finds improbable is taken
 * for an anomaly. The class that was left out tests it, beside a normal distribution with any covariance.
 *
 * Images become a few numbers first (common/components.h): principal components, and how far the image is from what
 * these can draw. So the density is one of 25 numbers, and not of 784 pixels, where likelihood is known to be a poor
 * judge (Nalisnick et al. 2019).
 */
#include "cli.h"
#include "estimate.h"
#include "output.h"
#include "common/components.h"
#include "common/gaussian.h"
#include "common/image_sets.h"
#include "common/roc.h"
#include "common/validated_fit.h"
#include <errno.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

static const char *data_name = "mnist", *json_path, *png_path, *scores_path;
static size_t unseen = 4, n = 25, most_rows, steps = 4000, batch = 250, layers = 5, width = 128, threads;
static double rate = 0.001;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"data", "mnist|fashion|cifar8|FOLDER", "images with labels, see docs/glow.md", .text = &data_name},
    {"unseen", "CLASS", "the class that is not trained with", .size = &unseen, .max = 255},
    {"numbers", "N", "numbers that an image becomes: N - 1 principal components and the distance from them", .size = &n,
     .min = 2, .max = 1000},
    {"rows", "N", "images to train with, at most; 0: all", .size = &most_rows, .max = 1e9},
    {"steps", "N", "of training", .size = &steps, .min = 1, .max = 1e8},
    {"batch", "N", "images a step", .size = &batch, .min = 1, .max = 1e6},
    {"rate", "R", "Adam's, which falls to 0 along a cosine", .number = &rate, .min = 1e-9, .max = 1},
    {"layers", "N", "autoregressive splines", .size = &layers, .min = 1, .max = 100},
    {"width", "N", "units of the nets' two hidden layers", .size = &width, .min = 1, .max = 1e4},
    {"seed", "S", "of parameters and the order of rows", .seed = &seed},
    {"threads", "N", "0: as many as there are. Results do not depend on it", .size = &threads, .max = 1024},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"scores", "FILE", "write the test images' labels and log-densities there (csv)", .text = &scores_path},
    {"plot", "FILE", "draw the curves there (PNG; needs gnuplot)", .text = &png_path},
    {0},
};

/* ---- the rows ---- */

/* Images of some classes as numbers [n_rows x n]. */
typedef struct part {
    size_t n_rows;
    nf_real *x;
    double *wide; /* x in double */
} part;

static size_t label(const nf_data *d, size_t i)
{
    size_t k = 0;
    while (k + 1 < d->n_ctx && d->ctx[i * d->n_ctx + k] < NF_R(0.5))
        k++;
    return k;
}

/* The images of the unseen class, or those of all others: [*n_rows x dim] bytes. */
static unsigned char *choose(const nf_data *d, bool of_unseen, size_t most, size_t *n_rows)
{
    unsigned char *x = cli_allocate(d->n, d->dim);
    *n_rows = 0;
    for (size_t i = 0; i < d->n && *n_rows < most; i++)
        if ((label(d, i) == unseen) == of_unseen)
            memcpy(x + (*n_rows)++ * d->dim, d->bytes + i * d->dim, d->dim);
    return x;
}

static part new_part(const components *c, size_t n_rows, const unsigned char *x)
{
    part p = {n_rows, cli_allocate(n_rows, n * sizeof(nf_real)), cli_allocate(n_rows, n * sizeof(double))};
    for (size_t i = 0; i < n_rows; i++)
        components_of_image(c, x + i * c->dim, p.x + i * n);
    for (size_t i = 0; i < n_rows * n; i++)
        p.wide[i] = (double)p.x[i];
    return p;
}

static part part_of(const components *c, const nf_data *d, bool of_unseen)
{
    size_t n_rows;
    unsigned char *x = choose(d, of_unseen, SIZE_MAX, &n_rows);
    if (n_rows < 2)
        cli_fail(1, "%s: %zu images to test and validate with are of class %zu%s", data_name, n_rows, unseen,
                 of_unseen ? "" : " not");
    const part p = new_part(c, n_rows, x);
    free(x);
    return p;
}

static void free_part(part *p)
{
    free(p->x);
    free(p->wide);
}

/* ---- the flow ---- */

static nf_model *fit(const part *train, const part *valid)
{
    nf_flow *flow = nf_nsf_autoregressive(
        n,
        &(nf_recipe_options){
            .n_layers = layers, .hidden = (size_t[]){width, width}, .n_hidden = 2, .n_blocks = NF_NONE, .seed = seed});
    nf_model *m = cli_made(nf_model_of_dist(nf_pushforward(nf_normal(n), flow), &(nf_model_options){.seed = seed}));
    const nf_data data[] = {{.n = train->n_rows, .dim = n, .x = train->x},
                            {.n = valid->n_rows, .dim = n, .x = valid->x}};
    validated_fit(
        "anomaly", m, &data[0], &data[1], batch,
        &(nf_fit_options){
            .steps = steps, .seed = seed, .threads = threads, .rate = rate, .validate_every = steps / 10 + 1});
    return m;
}

/* ---- how good it is ---- */

/* A judge's log-densities of test images, anomalies [0] and ordinary ones [1], and what follows from them. */
typedef struct judge {
    const char *name;
    size_t n_rows[2];
    double *log_p[2], *place[2];
    estimate area;
} judge;

static judge new_judge(const char *name, const part test[2])
{
    judge g = {.name = name};
    for (size_t k = 0; k < 2; k++) {
        g.n_rows[k] = test[k].n_rows;
        g.log_p[k] = cli_allocate(test[k].n_rows, sizeof(double));
        g.place[k] = cli_allocate(test[k].n_rows, sizeof(double));
    }
    return g;
}

static void compute_area(judge *g)
{
    roc_places(g->n_rows[0], g->log_p[0], g->n_rows[1], g->log_p[1], g->place[0], g->place[1]);
    g->area = roc_area(g->n_rows[0], g->place[0], g->n_rows[1], g->place[1]);
}

static void report(js_file *j, const judge *g)
{
    const estimate likelihood = mean_of(g->n_rows[1], g->log_p[1]);
    const double found = roc_found(g->n_rows[0], g->place[0], 0.05);
    printf("%-21s  %8.4f +- %.4f  %7.4f +- %.4f  %18.1f %%\n", g->name, likelihood.mean, likelihood.se, g->area.mean,
           g->area.se, 100 * found);
    js_begin(j, g->name, '{');
    js_number(j, "log_likelihood", likelihood.mean);
    js_number(j, "log_likelihood_se", likelihood.se);
    js_number(j, "area", g->area.mean);
    js_number(j, "area_se", g->area.se);
    js_number(j, "found_at_5_percent", found);
    js_end(j);
}

static void report_difference(js_file *j, const judge *a, const judge *b)
{
    double *d[2];
    for (size_t k = 0; k < 2; k++) {
        d[k] = cli_allocate(a->n_rows[k], sizeof(double));
        for (size_t i = 0; i < a->n_rows[k]; i++)
            d[k][i] = a->place[k][i] - b->place[k][i];
    }
    const estimate e = roc_area(a->n_rows[0], d[0], a->n_rows[1], d[1]);
    printf("%-41s  %7.4f +- %.4f\n", "difference", e.mean, e.se);
    js_number(j, "difference", e.mean);
    js_number(j, "difference_se", e.se);
    free(d[0]);
    free(d[1]);
}

static void write_scores(const judge *a, const judge *b)
{
    FILE *file = fopen(scores_path, "w");
    if (!file)
        cli_fail(1, "cannot write %s: %s", scores_path, strerror(errno));
    fprintf(file, "unseen,%s,%s\n", a->name, b->name);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < a->n_rows[k]; i++)
            fprintf(file, "%d,%.17g,%.17g\n", k == 0, a->log_p[k][i], b->log_p[k][i]);
    if (fclose(file) != 0)
        cli_fail(1, "cannot write %s: %s", scores_path, strerror(errno));
}

/* A threshold at an anomaly finds it and those below it; false alarms are the ordinary rows that are not above it. */
static void draw(const judge *g, size_t n_judges)
{
    FILE *p = plot_open(png_path, 560, 520);
    fprintf(p, "set xlabel 'ordinary images that raise an alarm'\nset ylabel 'anomalies that are found'\nset grid\n"
               "set size square\nset key bottom right\nset xrange [0:1]\nset yrange [0:1]\nplot ");
    for (size_t k = 0; k < n_judges; k++)
        fprintf(p, "'-' using 1:2 with lines lw 2 title '%s, area %.3f', ", g[k].name, g[k].area.mean);
    fprintf(p, "x with lines dt 2 lc rgb '#888888' title 'by chance'\n");
    for (size_t k = 0; k < n_judges; k++) {
        const size_t m = g[k].n_rows[0];
        double *sorted = cli_allocate(m, sizeof *sorted);
        memcpy(sorted, g[k].place[0], m * sizeof *sorted);
        cli_sort(m, sorted);
        fprintf(p, "0 0\n");
        for (size_t i = m; i-- > 0;)
            fprintf(p, "%.6g %.6g\n", 1 - sorted[i], (double)(m - i) / (double)m);
        fprintf(p, "1 1\ne\n");
        free(sorted);
    }
    plot_close(p);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Finds images of a class that was not trained with by their density.", options);
    cli_writable(json_path);
    cli_writable(png_path);
    cli_writable(scores_path);
    cli_catch_interrupt();
    image_sets d;
    image_sets_read(&d, data_name, true, 8);
    if (unseen >= d.n_labels || n > d.train.dim)
        cli_fail(1, "%s: %zu classes and %zu pixels, but --unseen is %zu and --numbers %zu", data_name, d.n_labels,
                 d.train.dim, unseen, n);
    size_t n_rows;
    unsigned char *x = choose(&d.train, false, most_rows ? most_rows : SIZE_MAX, &n_rows);
    components c = components_of(n, n_rows, d.train.dim, x);
    part train = new_part(&c, n_rows, x), valid = part_of(&c, &d.valid, false);
    part test[] = {part_of(&c, &d.test, true), part_of(&c, &d.test, false)};
    free(x);
    printf("%s without class %zu: %zu images to train, %zu to validate; test: %zu of class %zu and %zu others\n",
           data_name, unseen, train.n_rows, valid.n_rows, test[0].n_rows, unseen, test[1].n_rows);

    judge judges[] = {new_judge("flow", test), new_judge("gaussian", test)};
    nf_model *m = fit(&train, &valid);
    gaussian g = gaussian_fit(data_name, train.n_rows, n, train.wide);
    for (size_t k = 0; k < 2; k++) {
        cli_ok(nf_log_prob(m, NULL, NULL, test[k].n_rows, test[k].x, NULL, judges[0].log_p[k]));
        for (size_t i = 0; i < test[k].n_rows; i++)
            judges[1].log_p[k][i] = gaussian_log_p(&g, 0, test[k].wide + i * n);
    }
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "data", data_name);
    js_integer(j, "unseen", unseen);
    js_integer(j, "anomalies", test[0].n_rows);
    js_integer(j, "ordinary", test[1].n_rows);
    printf("                       log p of the others      area of the ROC     found at 5 %% false alarms\n");
    for (size_t k = 0; k < 2; k++) {
        compute_area(&judges[k]);
        report(j, &judges[k]);
    }
    report_difference(j, &judges[0], &judges[1]);
    js_end(j);
    js_close(j);
    if (scores_path)
        write_scores(&judges[0], &judges[1]);
    if (png_path)
        draw(judges, 2);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < 2; i++) {
            free(judges[k].log_p[i]);
            free(judges[k].place[i]);
        }
    gaussian_free(&g);
    nf_model_free(m);
    components_free(&c);
    free_part(&train);
    free_part(&valid);
    free_part(&test[0]);
    free_part(&test[1]);
    image_sets_free(&d);
    return cli_interrupted ? 130 : 0;
}
