/*
 * Variational inference on the four energies of Rezende & Mohamed (2015, section 6.1): a chain of planar (or radial)
 * flows on a diagonal normal is fitted to p(z) proportional to exp(-U(z)) by maximising the ELBO.
 *
 * For every energy, length and seed it prints KL(q || p) = E_q[log q - log p~] + log Z, with log Z by quadrature and a
 * million draws from q, and draws the densities as the paper's figure 3 does. docs/energies.md says what was learnt.
 */
#include "common/cli.h"
#include "common/energy_picture.h"
#include "common/energy_targets.h"
#include "common/output.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <nflow/nflow.h>

enum { BATCH = 400, START_STEPS = 4000, JUDGING_DRAWS = 20000, CHUNK = 10000, MAX_LENGTH = 1000, FEW = 4 };
enum { PLANAR, RADIAL };

static size_t which = N_ENERGIES, flow = PLANAR, n_seeds = 1, steps, starts, draws = 1000000, threads = 1;
static cli_sizes lengths = {3, {2, 8, 32}};
static uint64_t first_seed = 1;
static double rate;
static bool anneal, no_wall;
static const char *json_path, *png_path;
static const cli_option options[] = {
    {"energy", "U1|U2|U3|U4|all", "what to fit", .choice = &which},
    {"flow", "planar|radial", "kind of layer", .choice = &flow},
    {"length", "K,...", "layers, several lengths one after another", .sizes = &lengths, .max = MAX_LENGTH},
    {"seeds", "N", "fits of each kind, with seeds following each other", .size = &n_seeds, .min = 1, .max = 1000},
    {"seed", "S", "first seed", .seed = &first_seed},
    {"steps", "N", "steps of the long fit; 0: by length", .size = &steps},
    {"rate", "R", "learning rate; 0: by length", .number = &rate, .max = 1},
    {"starts", "N", "short fits of which the best goes on; 0: by length", .size = &starts, .max = 1000},
    {"anneal", NULL, "the paper's schedule instead: one start, beta = min(1, 0.01 + t / 10000)", .flag = &anneal},
    {"no-wall", NULL, "leave U2 to U4 without walls at z1 = +-4: they have no finite log Z then", .flag = &no_wall},
    {"draws", "N", "draws for the KL", .size = &draws, .min = 100, .max = 1e8},
    {"threads", "N", "more do not help much with batches of 400; 0: as many as there are", .size = &threads,
     .max = 1024},
    {"json", "FILE", "write the results there", .text = &json_path},
    {"plot", "FILE", "draw the densities there (PNG; needs gnuplot)", .text = &png_path},
    {0},
};

static size_t fits_done;
static const char *doing;

static int watch(void *user, const nf_progress *p)
{
    const double *part = user; /* of this fit: where it begins, how far it goes */
    double fits = (double)((which == N_ENERGIES ? N_ENERGIES : 1) * lengths.n * n_seeds);
    double share = part[0] + part[1] * (double)p->step / (double)p->steps;
    cli_progress("energies", (double)fits_done + share, fits, "%s  loss %.3f", doing, p->loss);
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

static nf_model *new_model(size_t length)
{
    nf_flow *layers[MAX_LENGTH];
    for (size_t k = 0; k < length; k++)
        layers[k] = flow == PLANAR ? nf_planar(2) : nf_radial(2);
    nf_dist *base = nf_diagonal_normal(2);
    nf_dist *q = length ? nf_pushforward(base, nf_chain(layers, length)) : base;
    return cli_made(nf_model_new(q, &(nf_model_options){.seed = first_seed}));
}

/* Where a fit begins. Many planar layers start as steep ridges all over the plane, w and b from N(0, 3^2), u from N(0,
   1/4): from small weights they stay in each other's way and whole lobes of p are lost. Few have to move: all from N(0,
   1). */
static void initialise(nf_model *m, size_t length, uint64_t seed, size_t start)
{
    cli_ok(nf_model_init(m, seed + 1000 * start, 0, NULL, NULL));
    size_t n = nf_model_shape(m)->n_params - 4; /* the base has 4 */
    nf_real *theta = nf_model_theta(m) + 4;
    if (flow == PLANAR && n > 0) {
        const double w = length < FEW ? 1 : 3, u = length < FEW ? 1 : 0.5, scale[5] = {w, w, u, u, w}; /* w, u, b */
        nf_noise_normal(&(nf_noise){.seed = seed, .step = start}, n, 1, 1, theta);
        for (size_t i = 0; i < n; i++)
            theta[i] *= NF_R(scale[i % 5]);
    }
    cli_ok(nf_model_update(m, NF_TRAIN));
}

/* ---- the fit ---- */

/* A few short fits at a constant rate, the best of which (by a fresh estimate of the ELBO) goes on while the rate falls
   to 0 along a cosine. Few layers are better off without annealing, which drives them all to the same lobe. */
static void fit(nf_model *m, const nf_target *target, size_t length, uint64_t seed)
{
    size_t n_starts = starts ? starts : anneal ? 1 : length == 0 ? 1 : length < FEW ? 32 : 16;
    size_t long_steps = steps ? steps : length <= 16 ? 40000 : 20000;
    size_t start_steps = long_steps < 10 * START_STEPS ? 1 + long_steps / 10 : START_STEPS;
    double first_rate = rate > 0 ? rate : 0.01, long_rate = rate > 0 ? rate : length <= 16 ? 0.01 : 0.005;
    nf_elbo_options plain = {.draws = BATCH}, rising = {.draws = BATCH}, judging = {.draws = JUDGING_DRAWS};
    if (anneal)
        plain.joint = (nf_schedule){.kind = NF_LINEAR, .from = 0.01, .to = 1, .steps = 9900};
    else if (length >= FEW)
        rising.joint = (nf_schedule){.kind = NF_LINEAR, .from = 0.01, .to = 1, .steps = start_steps / 2};
    nf_objective *elbo = cli_made(nf_elbo(m, target, &plain));
    nf_objective *start = cli_made(nf_elbo(m, target, &rising)), *judge = cli_made(nf_elbo(m, target, &judging));

    size_t bytes = nf_model_shape(m)->n_params * sizeof(nf_real);
    nf_real *best = allocate(bytes);
    double best_loss = INFINITY, part[2] = {0, 0.5 / (double)n_starts};
    nf_fit_options o = {.threads = threads, .callback = watch, .user = part, .clip_norm = 100};
    for (size_t i = 0; i < n_starts && n_starts > 1 && !cli_interrupted; i++) {
        part[0] = (double)i * part[1];
        initialise(m, length, seed, i);
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
        initialise(m, length, seed, 0);
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

/* ---- the judgement ---- */

typedef struct result {
    double kl, kl_se, elbo, log_z, ess, seconds;
} result;

/* With w = log p~(x) - log q(x), x ~ q: ELBO = mean w, KL = log Z - ELBO, log Z ~ log mean e^w, ESS = (sum e^w)^2 / sum
 * e^2w */
static void judge(const nf_model *m, const nf_target *target, double log_z, uint64_t seed, result *r)
{
    double *w = allocate(draws * sizeof *w), *x = allocate(2 * CHUNK * sizeof *x);
    static nf_real z[2 * CHUNK];
    static double log_q[CHUNK];
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    for (size_t i = 0; i < draws; i += CHUNK) {
        size_t n = draws - i < CHUNK ? draws - i : CHUNK;
        cli_ok(nf_sample(m, ws, &(nf_noise){.seed = ~seed, .first_sample = i}, n, NULL, z, log_q));
        for (size_t j = 0; j < 2 * n; j++)
            x[j] = z[j];
        cli_ok(nf_target_eval(target, n, x, w + i, NULL, NULL));
        for (size_t j = 0; j < n; j++)
            w[i + j] -= log_q[j];
    }
    double n = (double)draws, sum = 0, squares = 0, top = -INFINITY, e1 = 0, e2 = 0;
    for (size_t i = 0; i < draws; i++) {
        sum += w[i];
        top = fmax(top, w[i]);
    }
    for (size_t i = 0; i < draws; i++) {
        squares += (w[i] - sum / n) * (w[i] - sum / n);
        e1 += exp(w[i] - top);
        e2 += exp(2 * (w[i] - top));
    }
    r->elbo = sum / n;
    r->kl = log_z - r->elbo;
    r->kl_se = sqrt(squares / (n - 1) / n);
    r->log_z = top + log(e1 / n);
    r->ess = e1 * e1 / e2;
    nf_workspace_free(ws);
    free(w);
    free(x);
}

static void report(js_file *j, int number, size_t length, uint64_t seed, const result *r)
{
    char name[] = {'U', (char)('0' + number), 0};
    cli_progress_clear();
    printf("%-6s %3zu %5llu  %8.4f +- %.4f  %9.4f  %8.4f  %6.1f %%  %6.1f s\n", name, length, (unsigned long long)seed,
           r->kl, r->kl_se, r->elbo, r->log_z, 100 * r->ess / (double)draws, r->seconds);
    fflush(stdout);
    js_begin(j, NULL, '{');
    js_text(j, "energy", name);
    js_text(j, "flow", flow == PLANAR ? "planar" : "radial");
    js_integer(j, "length", length);
    js_integer(j, "seed", seed);
    js_number(j, "kl", r->kl);
    js_number(j, "kl_se", r->kl_se);
    js_number(j, "elbo", r->elbo);
    js_number(j, "log_z", r->log_z);
    js_number(j, "ess", r->ess);
    js_number(j, "seconds", r->seconds);
    js_end(j);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(size_t n, double *x)
{
    qsort(x, n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

int main(int argc, char **argv)
{
    cli_parse(argc, argv, "Fits flows to four hard densities in the plane by variational inference.", options);
    cli_writable(json_path);
    cli_writable(png_path);
    cli_catch_interrupt();
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_begin(j, "results", '[');
    picture *fig = picture_new(png_path, lengths.n, lengths.value);
    double *kl = allocate(n_seeds * sizeof *kl);
    printf("energy   K  seed        KL  (s.e.)         ELBO     log Z       ESS      time\n");
    size_t first = which == N_ENERGIES ? 0 : which, last = which == N_ENERGIES ? N_ENERGIES : which + 1;
    for (size_t i = first; i < last && !cli_interrupted; i++) {
        energy e = {.number = (int)i + 1, .wall = i > 0 && !no_wall};
        nf_target *target = cli_made(nf_target_callback(2, energy_log_p, &e, NF_THREADSAFE));
        double log_z = energy_log_z(e);
        picture_row(fig, e);
        for (size_t l = 0; l < lengths.n && !cli_interrupted; l++) {
            nf_model *m = new_model(lengths.value[l]);
            size_t done = 0;
            for (; done < n_seeds && !cli_interrupted; done++, fits_done++) {
                static char text[32];
                result r;
                double begin = cli_seconds();
                snprintf(text, sizeof text, "U%d K=%zu", e.number, lengths.value[l]);
                doing = text;
                fit(m, target, lengths.value[l], first_seed + done);
                r.seconds = cli_seconds() - begin;
                judge(m, target, log_z, first_seed + done, &r);
                report(j, e.number, lengths.value[l], first_seed + done, &r);
                kl[done] = r.kl;
                if (done == 0)
                    picture_panel(fig, m);
            }
            if (done > 1)
                printf("U%d     %3zu median  %7.4f\n", e.number, lengths.value[l], median(done, kl));
            nf_model_free(m);
        }
        nf_target_free(target);
    }
    cli_progress_clear();
    js_end(j);
    js_end(j);
    js_close(j);
    picture_finish(fig);
    free(kl);
    return cli_interrupted ? 130 : 0;
}
