/*
 * Variational inference on the four energies of Rezende & Mohamed (2015, section 6.1): a chain of planar (or other)
 * flows on a diagonal normal is fitted to p(z) proportional to exp(-U(z)) by maximising the ELBO.
 *
 * For every energy, length and seed it prints KL(q || p) = E_q[log q - log p~] + log Z, with log Z by quadrature and a
 * million draws from q, and draws the densities as the paper's figure 3 does. docs/energies.md says what was learnt.
 */
#include "cli.h"
#include "common/energy_judge.h"
#include "common/energy_picture.h"
#include "common/energy_targets.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <nflow/nflow.h>

enum { BATCH = 400, START_STEPS = 4000, JUDGING_DRAWS = 20000, MAX_LENGTH = 1000, FEW = 4 };
enum { PLANAR, RADIAL, NICE, REALNVP, IAF, MAF, NSF_COUPLING, NSF_AUTOREGRESSIVE, FFJORD, RESIDUAL };

/* A kind of layer: one that stands alone, or a recipe's, with perceptrons. */
typedef struct kind {
    const char *name;
    nf_flow *(*alone)(size_t dim);
    nf_flow *(*recipe)(size_t dim, const nf_recipe_options *options);
    bool contractive;     /* nf_residual, the recipe with options of its own */
    bool bounded, spline; /* other scales than the recipe's; splines in a box that holds all of p */
    bool smooth;          /* units without kinks in the second derivative */
    nf_parallel parallel;
    cli_sizes lengths; /* by default */
} kind;
static const kind kinds[] = {
    [PLANAR] = {.name = "planar", .alone = nf_planar, .lengths = {3, {2, 8, 32}}},
    [RADIAL] = {.name = "radial", .alone = nf_radial, .lengths = {3, {2, 8, 32}}},
    [NICE] = {.name = "nice", .recipe = nf_nice, .lengths = {3, {2, 8, 32}}},
    [REALNVP] = {.name = "realnvp", .recipe = nf_realnvp, .lengths = {1, {8}}},
    [IAF] = {.name = "iaf", .recipe = nf_iaf, .bounded = true, .lengths = {1, {8}}},
    [MAF] = {.name = "maf", .recipe = nf_maf, .bounded = true, .lengths = {1, {8}}},
    [NSF_COUPLING] = {.name = "nsf-coupling", .recipe = nf_nsf_coupling, .spline = true, .lengths = {1, {8}}},
    [NSF_AUTOREGRESSIVE] = {.name = "nsf-autoregressive",
                            .recipe = nf_nsf_autoregressive,
                            .spline = true,
                            .parallel = NF_PARALLEL_FORWARD,
                            .lengths = {1, {4}}},
    [FFJORD] = {.name = "ffjord", .recipe = nf_ffjord, .smooth = true, .lengths = {1, {1}}},
    [RESIDUAL] = {.name = "residual", .contractive = true, .lengths = {1, {8}}},
};

static size_t which = N_ENERGIES, flow = PLANAR, n_seeds = 1, steps, starts, draws = 1000000, threads = 1;
static cli_sizes lengths, hidden = {2, {32, 32}};
static uint64_t first_seed = 1;
static double rate;
static bool anneal, no_wall;
static bool beside; /* planar flows, then NICE, as in the paper's figure 3 */
static const char *json_path, *png_path;
static const cli_option options[] = {
    {"energy", "U1|U2|U3|U4|all", "what to fit", .choice = &which},
    {"flow", "planar|radial|nice|realnvp|iaf|maf|nsf-coupling|nsf-autoregressive|ffjord|residual", "kind of layer",
     .choice = &flow},
    {"length", "K,...", "layers, several lengths one after another; by kind, see docs/energies.md", .sizes = &lengths,
     .max = MAX_LENGTH},
    {"hidden", "N,...", "hidden layers of the nets that kinds from nice on have", .sizes = &hidden, .min = 1,
     .max = 10000},
    {"seeds", "N", "fits of each kind, with seeds following each other", .size = &n_seeds, .min = 1, .max = 1000},
    {"seed", "S", "first seed", .seed = &first_seed},
    {"steps", "N", "steps of the long fit; 0: by kind and length", .size = &steps},
    {"rate", "R", "learning rate; 0: by kind and length", .number = &rate, .max = 1},
    {"starts", "N", "short fits of which the best goes on; 0: by kind and length", .size = &starts, .max = 1000},
    {"anneal", NULL, "the paper's schedule instead: one start, beta = min(1, 0.01 + t / 10000)", .flag = &anneal},
    {"no-wall", NULL, "leave U2 to U4 without walls at z1 = +-4: they have no finite log Z then", .flag = &no_wall},
    {"draws", "N", "draws for the KL", .size = &draws, .min = 100, .max = 1e8},
    {"threads", "N", "more do not help much with batches of 400; 0: as many as there are", .size = &threads,
     .max = 1024},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "FILE", "draw the densities there (PNG; needs gnuplot); nice: beside planar flows", .text = &png_path},
    {0},
};

static size_t n_fits, fits_done;
static const char *doing;

static int watch(void *user, const nf_progress *p)
{
    const double *part = user; /* of this fit: where it begins, how far it goes */
    double share = part[0] + part[1] * (double)p->step / (double)p->steps;
    cli_progress("energies", (double)fits_done + share, (double)n_fits, "%s  loss %.3f", doing, p->loss);
    return cli_interrupted;
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p)
        cli_fail(1, "out of memory");
    return p;
}

/* ---- the model ---- */

static nf_flow *new_flow(const kind *k, size_t length)
{
    if (k->recipe) {
        const nf_scaled_affine_options bounded = {.scale = NF_SCALE_TANH};
        const nf_spline_options wide = {.bins = 8, .box = 6};
        nf_recipe_options o = {.n_layers = length,
                               .hidden = hidden.value,
                               .n_hidden = hidden.n,
                               .activation = k->smooth ? NF_TANH : NF_ELU,
                               .parallel = k->parallel,
                               .seed = first_seed};
        if (k->bounded) /* IAF's gate only shrinks, MAF's free scales may overflow */
            o.scale = &bounded;
        if (k->spline)
            o.spline = &wide;
        return k->recipe(2, &o);
    }
    if (k->contractive)
        return nf_residual(
            2, &(nf_residual_options){
                   .n_layers = length, .hidden = hidden.value, .n_hidden = hidden.n, .parallel = NF_PARALLEL_FORWARD});
    nf_flow *layers[MAX_LENGTH];
    for (size_t i = 0; i < length; i++)
        layers[i] = k->alone(2);
    return nf_chain(layers, length);
}

static nf_model *new_model(const kind *k, size_t length)
{
    nf_dist *base = nf_diagonal_normal(2);
    nf_dist *q = length ? nf_pushforward(base, new_flow(k, length)) : base;
    return cli_made(nf_model_of_dist(q, &(nf_model_options){.seed = first_seed}));
}

/* Where a fit begins. Many planar layers start as steep ridges all over the plane, w and b from N(0, 3^2), u from N(0,
   1/4): from small weights they stay in each other's way and whole lobes of p are lost. Few have to move: all from N(0,
   1). Recipes start near the identity by themselves. */
static void initialise(nf_model *m, const kind *k, size_t length, uint64_t seed, size_t start)
{
    cli_ok(nf_model_init(m, seed + 1000 * start, 0, NULL, NULL));
    size_t n = nf_model_shape(m)->n_params - 4; /* the base has 4 */
    nf_real *theta = nf_model_theta(m) + 4;
    if (k == &kinds[PLANAR] && n > 0) {
        const double w = length < FEW ? 1 : 3, u = length < FEW ? 1 : 0.5, scale[5] = {w, w, u, u, w}; /* w, u, b */
        nf_noise_normal(&(nf_noise){.seed = seed, .step = start}, n, 1, 1, theta);
        for (size_t i = 0; i < n; i++)
            theta[i] *= NF_R(scale[i % 5]);
    }
    cli_ok(nf_model_update(m, NF_TRAIN));
}

/* ---- the fit ---- */

/* A few short fits at a constant rate, the best of which (by a fresh estimate of the ELBO) goes on while the rate falls
   to 0 along a cosine. Few layers without nets are better off without annealing, which drives them all to the same
   lobe. */
static void fit(nf_model *m, const kind *k, const nf_target *target, size_t length, uint64_t seed)
{
    const bool nets = !k->alone && length > 0;
    size_t n_starts = starts ? starts : anneal || length == 0 ? 1 : nets ? 4 : length < FEW ? 32 : 16;
    size_t long_steps = steps ? steps : nets ? 6000 : length <= 16 ? 40000 : 20000;
    size_t start_steps = long_steps < 10 * START_STEPS ? 1 + long_steps / 10 : START_STEPS;
    double first_rate = rate > 0 ? rate : nets ? 0.005 : 0.01;
    double long_rate = rate > 0 ? rate : nets || length > 16 ? 0.005 : 0.01;
    nf_elbo_options plain = {.draws = BATCH}, rising = {.draws = BATCH}, judging = {.draws = JUDGING_DRAWS};
    if (anneal)
        plain.joint = (nf_schedule){.kind = NF_LINEAR, .from = 0.01, .to = 1, .steps = 9900};
    else if (nets || length >= FEW)
        rising.joint = (nf_schedule){.kind = NF_LINEAR, .from = 0.01, .to = 1, .steps = start_steps / 2};
    nf_objective *elbo = cli_made(nf_elbo(m, target, &plain));
    nf_objective *start = cli_made(nf_elbo(m, target, &rising)), *judge = cli_made(nf_elbo(m, target, &judging));

    size_t bytes = nf_model_shape(m)->n_params * sizeof(nf_real);
    nf_real *best = allocate(bytes);
    double best_loss = INFINITY, part[2] = {0, 0.5 / (double)n_starts};
    nf_fit_options o = {.threads = threads, .callback = watch, .user = part, .clip_norm = 100};
    for (size_t i = 0; i < n_starts && n_starts > 1 && !cli_interrupted; i++) {
        part[0] = (double)i * part[1];
        initialise(m, k, length, seed, i);
        o.steps = start_steps;
        o.seed = seed + 1000 * i;
        o.rate = first_rate;
        nf_step_report r;
        cli_ok(nf_fit(start, &o, NULL));
        cli_ok(nf_objective_value(judge, NULL, seed, 0, &r));
        if (r.loss < best_loss || i == 0) {
            best_loss = r.loss;
            memcpy(best, nf_model_theta(m), bytes);
        }
    }
    if (n_starts > 1)
        memcpy(nf_model_theta(m), best, bytes);
    else
        initialise(m, k, length, seed, 0);
    cli_ok(nf_model_update(m, NF_TRAIN));
    part[0] = n_starts > 1 ? 0.5 : 0;
    part[1] = 1 - part[0];
    o.steps = long_steps;
    o.seed = seed + 999999;
    o.rate = long_rate;
    o.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0, .steps = long_steps};
    cli_ok(nf_fit(elbo, &o, NULL));
    free(best);
    nf_objective_free(elbo);
    nf_objective_free(start);
    nf_objective_free(judge);
}

/* ---- what is reported ---- */

static void report(js_file *j, int number, const kind *k, size_t length, uint64_t seed, const judgement *r,
                   double seconds)
{
    char name[] = {'U', (char)('0' + number), 0};
    cli_progress_clear();
    printf("%-6s %-18s %3zu %5llu  %8.4f +- %.4f  %9.4f  %8.4f  %6.1f %%  %6.1f s\n", name, k->name, length,
           (unsigned long long)seed, r->kl, r->kl_se, r->elbo, r->log_z, 100 * r->ess / (double)draws, seconds);
    fflush(stdout);
    js_begin(j, NULL, '{');
    js_text(j, "energy", name);
    js_text(j, "flow", k->name);
    js_integer(j, "length", length);
    js_integer(j, "seed", seed);
    js_number(j, "kl", r->kl);
    js_number(j, "kl_se", r->kl_se);
    js_number(j, "elbo", r->elbo);
    js_number(j, "log_z", r->log_z);
    js_number(j, "ess", r->ess);
    js_number(j, "seconds", seconds);
    js_end(j);
}

static double median(size_t n, double *x)
{
    cli_sort(n, x);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

/* All seeds of one length; the first fit is drawn. */
static void fit_seeds(js_file *j, picture *fig, energy e, const kind *k, size_t length, size_t seeds)
{
    nf_target *target = cli_made(nf_target_callback(2, energy_log_p, &e, NF_THREADSAFE));
    nf_model *m = new_model(k, length);
    double log_z = energy_log_z(e), *kl = allocate(seeds * sizeof *kl);
    size_t done = 0;
    for (; done < seeds && !cli_interrupted; done++, fits_done++) {
        static char text[64];
        char label[64];
        const double begin = cli_seconds();
        snprintf(text, sizeof text, "U%d %s K=%zu", e.number, k->name, length);
        doing = text;
        fit(m, k, target, length, first_seed + done);
        const double seconds = cli_seconds() - begin;
        const judgement r = judge(m, target, log_z, draws, threads, first_seed + done);
        report(j, e.number, k, length, first_seed + done, &r, seconds);
        kl[done] = r.kl;
        if (done > 0)
            continue;
        snprintf(label, sizeof label, "%s%sK = %zu", beside ? k->name : "", beside ? ", " : "", length);
        picture_panel(fig, label, m);
    }
    if (done > 1)
        printf("U%-5d %-18s %3zu median  %7.4f\n", e.number, k->name, length, median(done, kl));
    free(kl);
    nf_model_free(m);
    nf_target_free(target);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Fits flows to four hard densities in the plane by variational inference.", options);
    cli_writable(json_path);
    cli_writable(png_path);
    cli_catch_interrupt();
    if (lengths.n == 0)
        lengths = kinds[flow].lengths;
    beside = flow == NICE && png_path;
    size_t first = which == N_ENERGIES ? 0 : which, last = which == N_ENERGIES ? N_ENERGIES : which + 1;
    n_fits = (last - first) * lengths.n * (n_seeds + beside);
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_begin(j, "results", '[');
    picture *fig = picture_new(png_path, last - first, lengths.n * (1 + beside));
    printf("energy flow                 K  seed        KL  (s.e.)         ELBO     log Z       ESS      time\n");
    for (size_t i = first; i < last && !cli_interrupted; i++) {
        energy e = {.number = (int)i + 1, .wall = i > 0 && !no_wall};
        picture_row(fig, e);
        for (size_t l = 0; beside && l < lengths.n && !cli_interrupted; l++)
            fit_seeds(j, fig, e, &kinds[PLANAR], lengths.value[l], 1);
        for (size_t l = 0; l < lengths.n && !cli_interrupted; l++)
            fit_seeds(j, fig, e, &kinds[flow], lengths.value[l], n_seeds);
    }
    cli_progress_clear();
    js_end(j);
    js_end(j);
    js_close(j);
    picture_finish(fig);
    return cli_interrupted ? 130 : 0;
}
