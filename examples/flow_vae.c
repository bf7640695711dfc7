/*
 * A VAE on images whose posterior is a normalizing flow, in single precision:
 *
 *     x -> hidden -> ... -> (mean, log-scale, rest) -> z -> ... -> hidden -> logits of x
 *
 * The rest is the layers' parameters, of planar and radial ones (Rezende & Mohamed 2015, sections 4.2 and 6.2), of
 * Sylvester flows (van den Berg et al. 2018) or of reflections (Tomczak & Welling 2016), or it is the context h of
 * flows that have nets of their own, the same for all images (Kingma et al. 2016, section 3).
 */
#include "cli.h"
#include "common/images.h"
#include "output.h"
#include "common/vae_pictures.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POSTERIORS                                                                                        \
    "diagonal|planar|radial|householder|sylvester-orthogonal|sylvester-householder|sylvester-triangular|" \
    "nice|realnvp|iaf|nsf-coupling|residual|ffjord"
/* In that order; the Sylvester flows in the order of nf_sylvester_kind. */
enum { DIAGONAL, PLANAR, RADIAL, HOUSEHOLDER, SYLVESTER };
enum { NICE = SYLVESTER + 3, REALNVP, IAF, NSF_COUPLING, RESIDUAL, FFJORD };
static const char *data, *json_path, *plot, *save, *load;
static size_t posterior = PLANAR, length = 10, latent = 40, updates = 20000, samples = 200, batch = 100, threads;
static size_t anneal, binarise, test_rows, context = 64, columns;
static cli_sizes hidden = {3, {400, 400, 400}}, flow_hidden = {2, {320, 320}};
static double rate = 0.001, warm_up = 0.1;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"data", "DIR", "IDX files, or packed binarised MNIST", .text = &data},
    {"posterior", POSTERIORS, "family of q(z | x)", .choice = &posterior},
    {"length", "K", "layers of the flow (one is much for ffjord); reflections of householder", .size = &length,
     .max = 1000},
    {"columns", "M", "of Q in sylvester-orthogonal, reflections in sylvester-householder; 0: 8, or D if less",
     .size = &columns, .max = 10000},
    {"context", "N", "features of context from the encoder to the flow's nets, from nice on", .size = &context,
     .max = 1e5},
    {"flow-hidden", "N,N...", "widths of hidden layers of the flow's nets", .sizes = &flow_hidden, .min = 1,
     .max = 100000},
    {"latent", "D", "dimensions of z", .size = &latent, .min = 1, .max = 10000},
    {"hidden", "N,N...", "widths of hidden layers, the decoder's mirrored", .sizes = &hidden, .min = 1, .max = 100000},
    {"updates", "N", "optimizer steps", .size = &updates, .min = 1},
    {"batch", "N", "rows a step", .size = &batch, .min = 1, .max = 1e6},
    {"rate", "R", "Adam's rate, falling to 0 along a cosine", .number = &rate, .min = 1e-9, .max = 1},
    {"anneal", "N", "weight of log p(x, z) rises from 0.01 to 1 in N updates", .size = &anneal},
    {"warm-up", "F", "weight of the KL rises from 0 to 1 in this part of the updates", .number = &warm_up, .max = 1},
    {"importance-samples", "N", "draws a row for log p(x)", .size = &samples, .min = 1, .max = 1e6},
    {"test-rows", "N", "score only the first N test rows; 0: all", .size = &test_rows},
    {"binarise", "static|dynamic|threshold", "how grey images become bits", .choice = &binarise},
    {"seed", "S", "of parameters, noise, batches and static bits", .seed = &seed},
    {"threads", "N", "0: as many as the machine has", .size = &threads, .max = 4096},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "PREFIX", "draw PREFIX-curves.png, -reconstructions.png, -samples.png", .text = &plot},
    {"save", "FILE", "write the model there", .text = &save},
    {"load", "FILE", "score the model of an earlier --save, untrained", .text = &load},
    {0},
};

static const char *posterior_name(void)
{
    static char name[32];
    const char *from = POSTERIORS;
    for (size_t k = 0; k < posterior; k++)
        from = strchr(from, '|') + 1;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(from, "|"), from);
    return name;
}

/* The k-th layer of those whose parameters are the encoder's output. */
static nf_flow *layer_of(size_t k)
{
    if (posterior == PLANAR)
        return nf_planar(latent);
    if (posterior == RADIAL)
        return nf_radial(latent);
    const nf_sylvester_kind kind = (nf_sylvester_kind)(posterior - SYLVESTER);
    return nf_sylvester(latent, &(nf_sylvester_options){.kind = kind,
                                                        .columns = kind == NF_SYLVESTER_ORTHOGONAL ? columns : 0,
                                                        .reflections = kind == NF_SYLVESTER_HOUSEHOLDER ? columns : 0,
                                                        .reversed = kind == NF_SYLVESTER_TRIANGULAR && k % 2});
}

static nf_flow *amortised(void)
{
    if (posterior == HOUSEHOLDER)
        return nf_amortized_by_context(nf_householder(latent, length));
    nf_flow **layer = calloc(length, sizeof(nf_flow *));
    if (!layer)
        cli_fail(1, "out of memory");
    for (size_t k = 0; k < length; k++)
        layer[k] = layer_of(k);
    nf_flow *flow = nf_amortized_by_context(nf_chain(layer, length));
    free(layer);
    return flow;
}

/* Layers with nets of their own, which read the encoder's output. */
static nf_flow *conditioned(void)
{
    if (posterior == RESIDUAL)
        return nf_residual(latent, &(nf_residual_options){.n_ctx = context,
                                                          .n_layers = length,
                                                          .hidden = flow_hidden.value,
                                                          .n_hidden = flow_hidden.n,
                                                          .parallel = NF_PARALLEL_FORWARD});
    const nf_continuous_options probed = {.trace = NF_TRACE_RADEMACHER, .score_by_probes = true};
    nf_recipe_options o = {.n_ctx = context,
                           .n_layers = length,
                           .hidden = flow_hidden.value,
                           .n_hidden = flow_hidden.n,
                           .ode = posterior == FFJORD ? &probed : NULL,
                           .seed = seed};
    if (posterior == NICE)
        o.mixing = NF_MIX_PERMUTE; /* as Rezende & Mohamed compared it */
    return posterior == NICE      ? nf_nice(latent, &o)
           : posterior == REALNVP ? nf_realnvp(latent, &o)
           : posterior == IAF     ? nf_iaf(latent, &o)
           : posterior == FFJORD  ? nf_ffjord(latent, &o)
                                  : nf_nsf_coupling(latent, &o);
}

static nf_model *build(size_t dim)
{
    const bool has_flow = posterior != DIAGONAL && length > 0;
    nf_dist *q = cli_made(!has_flow ? nf_diagonal_posterior(latent)
                                    : nf_posterior(latent, posterior < NICE ? amortised() : conditioned()));
    cli_sizes mirror = {.n = hidden.n};
    for (size_t i = 0; i < hidden.n; i++)
        mirror.value[i] = hidden.value[hidden.n - 1 - i];
    nf_net *encoder = nf_mlp(dim, nf_dist_shape(q)->n_ctx, 0,
                             &(nf_mlp_options){.hidden = hidden.value, .n_hidden = hidden.n, .last_scale = 0.1});
    nf_net *decoder = nf_mlp(latent, dim, 0, &(nf_mlp_options){.hidden = mirror.value, .n_hidden = mirror.n});
    nf_vae *vae = cli_made(nf_vae_new(encoder, q, decoder, NF_BERNOULLI));
    return cli_made(nf_model_of_vae(vae, &(nf_model_options){.seed = seed}));
}

/* ---- training ---- */

static int on_step(void *user, const nf_progress *p)
{
    curve *c = user;
    size_t every = (size_t)(p->steps + 99) / 100;
    cli_progress(posterior_name(), (double)p->step, (double)p->steps, "elbo %.2f, validation %.2f", -p->loss,
                 -p->validation);
    if (p->step % every == 0 && c->n < sizeof c->point / sizeof *c->point) {
        c->point[c->n][0] = (double)p->step;
        c->point[c->n][1] = -p->loss;
        c->point[c->n++][2] = -p->validation;
    }
    return cli_interrupted;
}

/* Twenty times, but not so often that it takes longer than training. */
static size_t validate_every(void)
{
    size_t every = (updates + 19) / 20;
    return every >= 500 ? every : updates < 500 ? updates : 500;
}

static nf_fit_report train(nf_model *m, const images *d, curve *c)
{
    nf_vae_options weights = {.batch = batch};
    if (anneal)
        weights.joint = (nf_schedule){.kind = NF_LINEAR, .from = 0.01, .to = 1, .steps = anneal};
    if (warm_up > 0)
        weights.kl = (nf_schedule){.kind = NF_LINEAR, .to = 1, .steps = (uint64_t)ceil(warm_up * (double)updates)};
    nf_objective *training = cli_made(nf_vae_elbo(m, &d->train, &weights));
    nf_objective *validation = cli_made(nf_vae_elbo(m, &d->valid, &(nf_vae_options){.batch = d->valid.n}));
    nf_fit_options fit = {
        .steps = updates,
        .seed = seed,
        .threads = threads,
        .rate = rate,
        .schedule = {.kind = NF_COSINE, .from = 1, .to = 0, .steps = updates},
        .validation = validation,
        .validate_every = validate_every(),
        .callback = on_step,
        .user = c,
    };
    nf_fit_report report;
    cli_ok(nf_fit(training, &fit, &report));
    cli_progress_clear();
    nf_objective_free(training);
    nf_objective_free(validation);
    return report;
}

static int on_rows(void *user, size_t done)
{
    cli_progress("scoring", (double)done, *(const double *)user, "%.0f test rows", *(const double *)user);
    return 0;
}

static nf_vae_scores score(nf_model *m, nf_workspace *ws, const images *d)
{
    nf_data test = d->test;
    if (test_rows && test_rows < test.n)
        test.n = test_rows;
    double total = (double)test.n;
    nf_vae_scores scores;
    cli_ok(nf_vae_score(m, ws, &test, samples, seed, on_rows, &total, &scores));
    return scores;
}

static void write_json(const images *d, const nf_vae_scores *s, const nf_fit_report *r, double seconds)
{
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "posterior", load ? "loaded" : posterior_name());
    if (load) {
        js_text(j, "model", load);
    } else {
        js_integer(j, "length", length);
        js_integer(j, "context", posterior < NICE || length == 0 ? 0 : context);
    }
    js_integer(j, "updates", r->steps);
    js_number(j, "elbo", s->elbo);
    js_number(j, "elbo_se", s->elbo_se);
    js_number(j, "nll", -s->log_px);
    js_number(j, "nll_se", s->log_px_se);
    js_number(j, "kl", s->kl);
    js_text(j, "binarisation", d->binarisation);
    js_integer(j, "importance_samples", samples);
    js_integer(j, "seed", seed);
    js_number(j, "seconds", seconds);
    if (!load)
        js_number(j, "updates_per_second", (double)r->steps / r->seconds);
    js_end(j);
    js_close(j);
}

int main(int argc, char **argv)
{
    double start = cli_seconds();
    cli_parse(argc, argv, "Trains a VAE with a normalizing flow as its posterior, and scores it.", options);
    static char path[4096], folder[4096];
    if (!data && getenv("NFLOW_DATA")) {
        snprintf(folder, sizeof folder, "%s/binarized_mnist", getenv("NFLOW_DATA"));
        data = folder;
    }
    if (!data)
        cli_fail(2, "no data: give --data DIR");
    if (posterior == DIAGONAL)
        length = 0;
    cli_writable(json_path);
    cli_writable(save);
    for (size_t k = 0; plot && k < VAE_PICTURES; k++) {
        vae_picture_path(plot, k, path);
        cli_writable(path);
    }
    images d;
    images_read(&d, data, (nf_binarise)(NF_BINARISE_STATIC + binarise), seed);
    cli_catch_interrupt();
    nf_model *m = load ? cli_made(nf_load(load, NULL)) : build(d.train.dim);
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    static curve c;
    printf("%zu training, %zu validation, %zu test images of %zu x %zu, binarisation: %s\n", d.train.n, d.valid.n,
           d.test.n, d.height, d.width, d.binarisation);
    if (load)
        printf("the model in %s, ", load);
    else
        printf("%s posterior, K = %zu, ", posterior_name(), length);
    printf("%zu latent dimensions, %zu parameters\n", nf_model_shape(m)->dim_out, nf_model_shape(m)->n_params);
    fflush(stdout);

    nf_fit_report r = load ? (nf_fit_report){.steps = 0} : train(m, &d, &c);
    if (save)
        cli_ok(nf_save(m, save));
    if (!load)
        printf("%llu updates in %.1f s (%.0f a second), validation ELBO %.2f\n", (unsigned long long)r.steps, r.seconds,
               (double)r.steps / r.seconds, -r.best);
    fflush(stdout);
    nf_vae_scores s = score(m, ws, &d);
    double seconds = cli_seconds() - start;
    printf("test: ELBO %.2f +- %.2f, KL %.2f, NLL %.2f +- %.2f by %zu importance samples; %.1f s in all\n", s.elbo,
           s.elbo_se, s.kl, -s.log_px, s.log_px_se, samples, seconds);
    if (nf_model_shape(m)->flags & NF_STOCHASTIC)
        printf("the NLL is too low: log q(z | x) is an estimate, whose noise makes some importance weights large\n");
    write_json(&d, &s, &r, seconds);
    if (plot)
        vae_pictures(plot, m, ws, &d, &c, seed);

    nf_workspace_free(ws);
    nf_model_free(m);
    images_free(&d);
    return 0;
}
