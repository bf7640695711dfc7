/*
 * Glow (Kingma & Dhariwal 2018) or Real NVP (Dinh, Sohl-Dickstein & Bengio 2017) on images, in single precision:
 *
 *     z ~ N(0, 1)  ->  several scales  ->  logit  ->  v in [0, 1]  ->  k = floor(levels v), a whole number for each
 * pixel
 *
 * Fitted by maximum likelihood of the dequantised numbers (Theis, van den Oord & Bethge 2016). Afterwards it prints
 * bits per dimension of the whole test set, and draws samples, interpolations and reconstructions.
 */
#include "cli.h"
#include "estimate.h"
#include "common/image_flow.h"
#include "common/image_flow_pictures.h"
#include "common/image_sets.h"
#include "long_fit.h"
#include "output.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { INITIAL_ROWS = 512, SCORED = 500, ROUND_TRIPS = 1000 };

static const char *data_name, *folder, *json_path;
static size_t recipe, noise, bits = 8, levels, steps_of_flow, channels, blocks, mixing, prior, recompute, scale = 1,
                             bins = 32;
static size_t batch = 64, steps, epochs, warm_up = 200, validate_every = 200, validation_rows = 1000, test_rows,
              patience, threads;
static bool labels, additive, no_logit, resume;
static double alpha, minutes = 8, rate = 0.005, clip = 100, decay = 0.999, temperature = 1;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"data", "DATA", "mnist, fashion, cifar8, a folder of IDX or PNG files, or an npy file of bytes",
     .text = &data_name},
    {"out", "DIR", "folder for the model, its checkpoint, results and pictures", .text = &folder},
    {"labels", NULL, "the density is that of images given their label", .flag = &labels},
    {"bits", "B", "of each byte the upper B bits are kept", .size = &bits, .min = 1, .max = 8},
    {"flow", "glow|realnvp", "the recipe", .choice = &recipe},
    {"levels", "L", "how often height and width are halved; 0: 3, of realnvp 2, or fewer", .size = &levels, .max = 20},
    {"steps-of-flow", "K", "of each level; of realnvp couplings of each kind; 0: 8, of realnvp 3",
     .size = &steps_of_flow, .max = 1000},
    {"channels", "N", "of the nets' hidden layers; 0: 64, of realnvp 32", .size = &channels, .max = 100000},
    {"blocks", "N", "residual blocks of realnvp's nets; 0: 4", .size = &blocks, .max = 100},
    {"additive", NULL, "couplings shift and do not scale", .flag = &additive},
    {"scale", "sigmoid|tanh", "of couplings: sigmoid(a + 2), or exp(2 tanh(a / 2))", .choice = &scale},
    {"mixing", "recipe|none|reverse|permute|lu", "of channels before each coupling of glow", .choice = &mixing},
    {"prior", "recipe|standard|learnt", "of the features that are split off", .choice = &prior},
    {"recompute", "recipe|never|always", "compute again what gradients need: less memory", .choice = &recompute},
    {"alpha", "A", "the logit layer is logit(A + (1 - 2 A) v); 0: 1e-6 of one channel, 0.05 of more", .number = &alpha,
     .max = 0.49},
    {"bins", "B", "of the spline of single pixels beside that layer; 0: no spline", .size = &bins, .max = 1000},
    {"no-logit", NULL, "without that layer", .flag = &no_logit},
    {"noise", "uniform|variational", "what fills the gaps between whole numbers; variational noise is learnt, too",
     .choice = &noise},
    {"minutes", "M", "of training; the rate falls to 0 within this time", .number = &minutes, .min = 0.001,
     .max = 100000},
    {"steps", "N", "of training, in place of --minutes", .size = &steps},
    {"epochs", "N", "of training, in place of --minutes", .size = &epochs, .max = 1e6},
    {"batch", "N", "images a step", .size = &batch, .min = 1, .max = 1e6},
    {"rate", "R", "Adam's rate, falling to 0 along a cosine", .number = &rate, .min = 1e-9, .max = 1},
    {"warm-up", "N", "steps in which the rate rises", .size = &warm_up},
    {"clip", "C", "norm of the gradient in nats, at most; 0: any", .number = &clip},
    {"average", "D", "decay of the moving average of the parameters; 0: none", .number = &decay, .max = 0.999999},
    {"validate-every", "N", "steps between validations, which also write the checkpoint", .size = &validate_every,
     .min = 1},
    {"validation-rows", "N", "images of a validation", .size = &validation_rows, .min = 1},
    {"patience", "N", "stop after N validations without a better one; 0: never", .size = &patience},
    {"test-rows", "N", "score only the first N test rows; 0: all", .size = &test_rows},
    {"resume", NULL, "continue from DIR's checkpoint, if there is one", .flag = &resume},
    {"temperature", "T", "of samples: latent vectors are T N(0, 1)", .number = &temperature, .max = 10},
    {"seed", "S", "of parameters, noise, batches and samples", .seed = &seed},
    {"threads", "N", "0: as many as the machine has", .size = &threads, .max = 4096},
    {"json", "FILE", "write the results there; by default DIR/result.json", .text = &json_path},
    {0},
};

/* Lives as long as the program. */
static const char *in_folder(const char *name)
{
    static char *paths[8];
    static size_t n;
    return paths[n++] = cli_text("%s/%s", folder, name);
}

/* ---- the model ---- */

/* The last layers, which see single numbers: a spline for each channel, the same in all its pixels, then the logit
   layer. Most pixels of MNIST are 0, and what dequantisation makes of them is far from normal; a spline makes it
   normal, affine couplings cannot. NULL: there are none. */
static nf_flow *new_marginals(nf_image size)
{
    const size_t pixels = size.height * size.width;
    const double a = alpha > 0 ? alpha : size.channels == 1 ? 1e-6 : 0.05;
    const double outside = a / (1 - 2 * a); /* how far the logit's interval reaches beyond [0, 1] */
    nf_flow *f[3];
    size_t n = 0;
    if (bins > 0) {
        f[n++] = nf_pixelwise(nf_spline(size.channels, &(nf_spline_options){.bins = bins, .box = 4}), pixels);
        f[n++] = nf_pixelwise(nf_actnorm(size.channels), pixels);
    }
    if (!no_logit)
        f[n++] = nf_interval(size.channels * pixels, -outside, 1 + outside);
    return n ? cli_made(nf_chain(f, n)) : NULL;
}

/* From a standard normal to images whose pixels are between 0 and 1. */
static nf_dist *new_density(const image_sets *d)
{
    const bool glow = recipe == 0;
    const nf_scaled_affine_options scales[] = {{.scale = NF_SCALE_SIGMOID, .bias = 2}, {.scale = NF_SCALE_TANH}};
    const nf_image_recipe_options o = {.n_ctx = d->n_labels,
                                       .n_levels = levels,
                                       .n_steps = steps_of_flow || !glow ? steps_of_flow : 8,
                                       .hidden = channels || !glow ? channels : 64,
                                       .n_blocks = blocks,
                                       .additive = additive,
                                       .scale = additive ? NULL : &scales[scale],
                                       .mixing = (nf_mixing)mixing,
                                       .prior = (nf_split_prior)prior,
                                       .recompute = (nf_recompute)recompute,
                                       .seed = seed};
    nf_flow *flow = cli_made(glow ? nf_glow(d->size, &o) : nf_realnvp_image(d->size, &o));
    nf_flow *marginals = new_marginals(d->size);
    if (marginals)
        flow = cli_made(nf_chain((nf_flow *[]){flow, marginals}, 2));
    return cli_made(nf_pushforward(nf_normal(d->train.dim), flow));
}

static nf_model *new_model(nf_dist *density, const image_sets *d)
{
    const size_t dim = d->train.dim, n = d->train.n < INITIAL_ROWS ? d->train.n : INITIAL_ROWS;
    nf_real *x = cli_allocate(n, dim * sizeof *x);
    for (size_t i = 0; i < n; i++)
        images_row(&d->train, i, x + i * dim);
    nf_dist *u = cli_made(noise ? nf_image_dequantiser(d->size, &(nf_image_dequantiser_options){.n_ctx = d->n_labels})
                                : nf_uniform(dim, 0, 1));
    nf_dist *q = nf_dequantised(density, u, &(nf_dequantised_options){.levels = (size_t)1 << bits, .step = 1.0 / 255});
    nf_model *m = cli_made(nf_model_of_dist(
        cli_made(q), &(nf_model_options){.seed = seed, .n_init = n, .init_x = x, .init_ctx = d->train.ctx}));
    free(x);
    return m;
}

/* ---- training ---- */

/* The model then has the best parameters. */
static nf_fit_report train(nf_model *m, const image_sets *d, learning_curve *c)
{
    nf_data some = d->valid;
    some.n = some.n < validation_rows ? some.n : validation_rows;
    nf_objective *o = cli_made(nf_maximum_likelihood(m, &d->train, &(nf_likelihood_options){.batch = batch}));
    nf_objective *valid = cli_made(nf_maximum_likelihood(m, &some, &(nf_likelihood_options){.batch = some.n}));
    const nf_fit_options fit = {.seed = seed,
                                .threads = threads,
                                .rate = rate,
                                .clip_norm = clip,
                                .average = decay,
                                .validation = valid,
                                .validate_every = validate_every,
                                .patience = patience};
    const long_fit_options how = {.what = "glow",
                                  .checkpoint = in_folder("checkpoint.safetensors"),
                                  .curve = in_folder("curve.txt"),
                                  .resume = resume,
                                  .steps = steps ? steps : (epochs * d->train.n + batch - 1) / batch,
                                  .minutes = minutes,
                                  .warm_up = warm_up,
                                  .factor = nf_bits_per_dimension(-1, d->train.dim),
                                  .figure = "bits/dim"};
    const nf_fit_report r = long_fit(o, &fit, &how, c);
    nf_objective_free(o);
    nf_objective_free(valid);
    return r;
}

/* ---- results ---- */

/* Bits per dimension over a set's first n images. */
static estimate score(const nf_model *m, nf_workspace *ws, const char *what, const nf_data *set, size_t n)
{
    const size_t dim = set->dim;
    double *bits_of = cli_allocate(n, sizeof *bits_of);
    nf_real *x = cli_allocate(SCORED, dim * sizeof *x);
    for (size_t i = 0, now; i < n; i += now) {
        now = n - i < SCORED ? n - i : SCORED;
        for (size_t k = 0; k < now; k++)
            images_row(set, i + k, x + k * dim);
        cli_ok(nf_log_prob(m, ws, &(nf_noise){.seed = seed, .step = UINT64_MAX, .first_sample = i}, now, x,
                           set->ctx ? set->ctx + i * set->n_ctx : NULL, bits_of + i));
        cli_progress(what, (double)(i + now), (double)n, "%zu images", n);
    }
    for (size_t i = 0; i < n; i++)
        bits_of[i] = nf_bits_per_dimension(bits_of[i], dim);
    const estimate e = mean_of(n, bits_of);
    free(bits_of);
    free(x);
    return e;
}

/* What the results are of. */
static void write_options(js_file *j, const nf_model *m)
{
    js_text(j, "data", data_name);
    js_integer(j, "bits", bits);
    js_text(j, "flow", recipe ? "realnvp" : "glow");
    js_text(j, "noise", noise ? "variational" : "uniform");
    js_integer(j, "parameters", nf_model_shape(m)->n_params);
    js_integer(j, "batch", batch);
    js_number(j, "rate", rate);
    js_integer(j, "seed", seed);
}

static void write_scores(js_file *j, const nf_model *m, const image_flow *f, const image_sets *d)
{
    static const char *const names[] = {"test", "validation", "training"}, *const errors[] = {"test_se",
                                                                                              "validation_se",
                                                                                              "training_se"};
    const nf_data *const sets[] = {&d->test, &d->valid, &d->train};
    const size_t most = test_rows && test_rows < d->test.n ? test_rows : d->test.n;
    printf("bits per dimension:");
    for (size_t k = 0; k < 3; k++) {
        const estimate e = score(m, f->ws, names[k], sets[k], sets[k]->n < most ? sets[k]->n : most);
        js_number(j, names[k], e.mean);
        js_number(j, errors[k], e.se);
        printf("%s %s %.4f +- %.4f", k ? "," : "", names[k], e.mean, e.se);
    }
    printf("\n");
}

static void write_round_trip(js_file *j, const image_flow *f, const nf_data *test)
{
    const image_round_trip r =
        image_flow_round_trip(f, test->n < ROUND_TRIPS ? test->n : ROUND_TRIPS, test->bytes, test->ctx, NULL);
    printf(
        "%zu test images to latent vectors and back: %zu wrong pixels, largest error %.2g (%.2g levels) in image %zu, "
        "channel %zu, row %zu, column %zu\n",
        r.images, r.wrong, r.error, r.error * (double)f->levels, r.image, r.channel, r.row, r.column);
    js_begin(j, "round_trip", '{');
    js_integer(j, "images", r.images);
    js_integer(j, "wrong_pixels", r.wrong);
    js_number(j, "largest_error", r.error);
    js_integer(j, "image", r.image);
    js_integer(j, "channel", r.channel);
    js_integer(j, "row", r.row);
    js_integer(j, "column", r.column);
    js_end(j);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Fits a density to images by Glow or Real NVP.", options);
    if (!data_name || !folder)
        cli_fail(2, "no %s", data_name ? "folder for the results: give --out DIR" : "data: give --data DATA");
    if (steps && epochs)
        cli_fail(2, "--steps and --epochs exclude each other");
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        cli_fail(1, "cannot make the folder %s: %s", folder, strerror(errno));
    json_path = json_path ? json_path : in_folder("result.json");
    cli_writable(json_path);
    cli_writable(in_folder("samples.png"));
    image_sets d;
    image_sets_read(&d, data_name, labels, bits);
    nf_dist *density = new_density(&d);
    nf_model *m = new_model(nf_dist_ref(density), &d);
    printf("%zu training, %zu validation, %zu test images of %zu x %zu, %zu channel%s, %zu bits; %zu parameters\n",
           d.train.n, d.valid.n, d.test.n, d.size.height, d.size.width, d.size.channels, d.size.channels > 1 ? "s" : "",
           bits, nf_model_shape(m)->n_params);
    fflush(stdout);
    cli_catch_interrupt();
    learning_curve c;
    const nf_fit_report r = train(m, &d, &c);
    printf("%llu steps in %.0f s, the best validation after step %llu\n", (unsigned long long)r.steps, r.seconds,
           (unsigned long long)r.best_step);
    fflush(stdout);
    cli_ok(nf_save(m, in_folder("model.safetensors")));

    /* The density's numbers are the first ones of m. */
    const nf_model_options shared = {.theta = nf_model_theta(m), .state = nf_model_state(m)};
    const image_flow f = {cli_made(nf_model_of_dist(density, &shared)), cli_made(nf_workspace_new(threads)), d.size,
                          d.train.dim, (size_t)1 << bits};
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    write_options(j, m);
    js_integer(j, "steps", r.steps);
    js_integer(j, "best_step", r.best_step);
    js_number(j, "seconds", r.seconds);
    js_integer(j, "bytes", r.bytes);
    write_scores(j, m, &f, &d);
    write_round_trip(j, &f, &d.test);
    learning_curve_write(&c, j, "curve");
    js_end(j);
    js_close(j);
    image_flow_pictures(&f, &d, folder, temperature, seed);
    learning_curve_draw(&c, in_folder("curve.png"), "bits per dimension");
    learning_curve_free(&c);
    nf_workspace_free(f.ws);
    nf_model_free(f.density);
    nf_model_free(m);
    image_sets_free(&d);
    return cli_interrupted ? 130 : 0;
}
