/* VAEs: likelihoods in closed form, the ELBO's gradient against finite differences, a linear Gaussian VAE whose log
   p(x) is known, streamed importance sampling against a direct sum, determinism, and misuse. */
#include "support/numbers.h"
#include "fail_alloc.h"
#include "vae/vae.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef NF_SINGLE
static const double tolerance = 1e-5, fd_tolerance = 3e-2, fd_step = 3e-3;
#else
static const double tolerance = 1e-12, fd_tolerance = 1e-6, fd_step = 1e-5;
#endif
static const double log_2pi = 1.8378770664093454836;

/* ---- likelihoods ---- */

Test(vae, bernoulli_likelihood_has_its_closed_form_and_takes_any_logit)
{
    enum { DIM = 7, N = 19, LD = 32 };
    static nf_real x[DIM * LD], l[DIM * LD], g[DIM * LD];
    double log_p[LD];
    draw(3, DIM * LD, 2.3, l);
    for (size_t i = 0; i < DIM * LD; i++)
        x[i] = i * 2654435761u % 7 < 3;
    nfi_likelihood_log(NF_BERNOULLI, DIM, N, LD, x, l, NF_R(-1.7), log_p, g);
    for (size_t s = 0; s < LD; s++) {
        double exact = 0;
        for (size_t r = 0; r < DIM; r++) {
            double p = 1 / (1 + exp(-(double)l[r * LD + s])), xr = (double)x[r * LD + s];
            exact += xr > 0 ? log(p) : log1p(-p);
            cr_assert_float_eq((double)g[r * LD + s], s < N ? -1.7 * (xr - p) : 0, tolerance * 5);
        }
        cr_assert_float_eq(log_p[s], exact, tolerance * 50);
    }
    static const double extreme[] = {40, -40, 90, -90, 1000, -1000, 1e30, -1e30};
    for (size_t i = 0; i < sizeof extreme / sizeof extreme[0]; i++)
        for (int bit = 0; bit < 2; bit++) {
            nf_real one_x[16], one_l[16], one_g[16];
            for (size_t s = 0; s < 16; s++) {
                one_x[s] = (nf_real)bit;
                one_l[s] = (nf_real)extreme[i];
            }
            nfi_likelihood_log(NF_BERNOULLI, 1, 1, 16, one_x, one_l, 1, log_p, one_g);
            double wrong = bit ? -extreme[i] : extreme[i]; /* how far the logit points the wrong way */
            double exact = wrong > 0 ? -(double)(nf_real)wrong : -exp(wrong);
            cr_assert_float_eq(log_p[0], exact, 1e-6 * fabs(exact) + 1e-12, "bit %d, logit %g: %g", bit, extreme[i],
                               log_p[0]);
            cr_assert_float_eq((double)one_g[0], wrong > 0 ? (bit ? 1 : -1) : 0, 1e-12);
        }
}

Test(vae, gaussian_likelihood_has_its_closed_form)
{
    enum { DIM = 5, N = 13, LD = 16 };
    static nf_real x[DIM * LD], a[2 * DIM * LD], g[2 * DIM * LD], mean[DIM * LD];
    double log_p[LD];
    draw(4, DIM * LD, 1.1, x);
    draw(5, 2 * DIM * LD, 0.8, a);
    nfi_likelihood_log(NF_GAUSSIAN, DIM, N, LD, x, a, NF_R(0.6), log_p, g);
    for (size_t s = 0; s < LD; s++) {
        double exact = 0;
        for (size_t r = 0; r < DIM; r++) {
            double t = (double)a[(DIM + r) * LD + s], e = ((double)x[r * LD + s] - (double)a[r * LD + s]) / exp(t);
            exact -= 0.5 * e * e + t + 0.5 * log_2pi;
            double scale = 1 + e * e + fabs(e) / exp(t);
            cr_assert_float_eq((double)g[r * LD + s], s < N ? 0.6 * e / exp(t) : 0, tolerance * scale);
            cr_assert_float_eq((double)g[(DIM + r) * LD + s], s < N ? 0.6 * (e * e - 1) : 0, tolerance * scale);
        }
        cr_assert_float_eq(log_p[s], exact, tolerance * (10 + fabs(exact)));
    }
    nfi_likelihood_mean(NF_GAUSSIAN, DIM, LD, a, mean);
    cr_assert_arr_eq(mean, a, sizeof mean);
}

/* ---- VAEs to try things on ---- */

enum { X = 9, Z = 2, HIDDEN = 6, ROWS = 60 };

static nf_dist *small_posterior(bool flow)
{
    if (!flow)
        return nf_diagonal_posterior(Z);
    nf_flow *layers[] = {nf_planar(Z), nf_planar(Z), nf_radial(Z)};
    nf_flow *parts[] = {nf_amortized_by_context(nf_chain(layers, 3)), nf_lu_linear(Z, 3)};
    return nf_posterior(Z, nf_chain(parts, 2));
}

static nf_model *small_vae(nf_likelihood likelihood, bool flow, uint64_t seed)
{
    nf_mlp_options o = {.hidden = (size_t[]){HIDDEN}, .n_hidden = 1, .activation = NF_TANH};
    nf_dist *q = small_posterior(flow);
    size_t n_ctx = nf_dist_shape(q)->n_ctx;
    nf_vae *vae =
        nf_vae_new(nf_mlp(X, n_ctx, 0, &o), q, nf_mlp(Z, likelihood == NF_GAUSSIAN ? 2 * X : X, 0, &o), likelihood);
    nf_model *m = nf_model_of_vae(vae, &(nf_model_options){.seed = seed});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* Two clusters of pictures with noise; or, for Gaussian likelihoods, the same in grey. */
static nf_data small_data(nf_likelihood likelihood, size_t n)
{
    static nf_real x[3000 * X];
    draw(8, n * X, 0.8, x);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < X; j++) {
            nf_real *v = &x[i * X + j];
            *v += i % 2 == (j < 4) ? NF_R(1.2) : NF_R(-1.2);
            if (likelihood == NF_BERNOULLI)
                *v = *v > 0;
        }
    return (nf_data){.n = n, .dim = X, .x = x};
}

static double custom(void *user, uint64_t step)
{
    (void)step;
    return *(double *)user;
}

static nf_vae_options weights(double *joint, double *kl)
{
    return (nf_vae_options){.batch = ROWS,
                            .joint = {.kind = NF_CUSTOM, .call = custom, .user = joint},
                            .kl = {.kind = NF_CUSTOM, .call = custom, .user = kl}};
}

/* ---- the ELBO ---- */

Test(vae, elbo_gradient_is_that_of_finite_differences)
{
    for (int which = 0; which < 4; which++) {
        nf_likelihood likelihood = which & 1 ? NF_GAUSSIAN : NF_BERNOULLI;
        nf_model *m = small_vae(likelihood, which & 2, 5);
        nf_data data = small_data(likelihood, ROWS);
        double joint = 0.73, kl = 0.41;
        nf_vae_options options = weights(&joint, &kl);
        nf_objective *o = nf_vae_elbo(m, &data, &options);
        size_t n = nf_model_shape(m)->n_params;
        nf_real *theta = nf_model_theta(m), *g = calloc(n, sizeof *g), *v = calloc(n, sizeof *v);
        nf_real *kept = calloc(n, sizeof *kept);
        nf_step_report report;
        draw(6, n, 0.4, theta);
        memcpy(kept, theta, n * sizeof *kept);
        cr_assert_eq(nf_model_update(m, NF_TRAIN), NF_OK);
        cr_assert_eq(nf_objective_gradient(o, NULL, 3, 2, &report, g), NF_OK, "%s", nf_error_message());
        /* every eighth parameter alone, then four random directions */
        for (size_t trial = 0; trial < n / 8 + 4; trial++) {
            memset(v, 0, n * sizeof *v);
            if (trial < n / 8)
                v[8 * trial + 3] = 1;
            else
                draw(300 + trial, n, 1 / sqrt((double)n), v);
            double exact = 0, side[2];
            for (int s = 0; s < 2; s++) {
                for (size_t i = 0; i < n; i++)
                    theta[i] = kept[i] + (nf_real)(s ? fd_step : -fd_step) * v[i];
                cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
                cr_assert_eq(nf_objective_value(o, NULL, 3, 2, &report), NF_OK);
                side[s] = report.loss;
            }
            for (size_t i = 0; i < n; i++)
                exact += (double)g[i] * (double)v[i];
            double numeric = (side[1] - side[0]) / (2 * fd_step);
            cr_assert_lt(fabs(exact - numeric), fd_tolerance * (1 + fabs(exact)),
                         "VAE %d, direction %zu: %.9g by hand, %.9g by differences", which, trial, exact, numeric);
        }
        free(g);
        free(v);
        free(kept);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* loss(beta, kl) = kl (log q - beta log p(z)) - beta log p(x|z), at one and the same noise. */
Test(vae, elbo_weighs_its_terms)
{
    nf_model *m = small_vae(NF_BERNOULLI, true, 7);
    nf_data data = small_data(NF_BERNOULLI, ROWS);
    double joint, kl;
    nf_vae_options options = weights(&joint, &kl);
    nf_objective *o = nf_vae_elbo(m, &data, &options);
    nf_step_report plain, r;
    cr_assert_arr_eq(nf_objective_table(o)->terms[0], "log_px", sizeof "log_px");
    joint = kl = 1;
    cr_assert_eq(nf_objective_value(o, NULL, 1, 4, &plain), NF_OK);
    cr_assert_float_eq(plain.loss, plain.term[1] - plain.term[0], 1e-9);
    joint = 0;
    cr_assert_eq(nf_objective_value(o, NULL, 1, 4, &r), NF_OK);
    double log_q = r.loss, log_pz = log_q - plain.term[1];
    cr_assert_lt(fabs(log_pz + Z * log_2pi / 2), 5.0);
    static const double trial[][2] = {{0.3, 1}, {1, 0.2}, {0.7, 0.6}, {2.5, 0}};
    for (size_t i = 0; i < 4; i++) {
        joint = trial[i][0];
        kl = trial[i][1];
        cr_assert_eq(nf_objective_value(o, NULL, 1, 4, &r), NF_OK);
        cr_assert_float_eq(r.loss, kl * (log_q - joint * log_pz) - joint * plain.term[0], 1e-9);
        cr_assert_float_eq(r.term[0], plain.term[0], 1e-12, "terms are not weighted");
        cr_assert_float_eq(r.term[1], plain.term[1], 1e-12);
    }
    nf_objective_free(o);
    nf_model_free(m);
}

Test(vae, results_do_not_depend_on_threads)
{
    static const size_t threads[] = {1, 2, 3, 8};
    nf_model *m = small_vae(NF_BERNOULLI, true, 9);
    nf_data data = small_data(NF_BERNOULLI, 1100);
    nf_objective *o = nf_vae_elbo(m, &data, &(nf_vae_options){.batch = 1000});
    size_t n = nf_model_shape(m)->n_params;
    nf_real *g = calloc(4 * n, sizeof *g);
    nf_step_report r[4];
    nf_vae_scores s[4];
    for (size_t t = 0; t < 4; t++) {
        nf_workspace *ws = nf_workspace_new(threads[t]);
        cr_assert_eq(nf_objective_gradient(o, ws, 3, 2, &r[t], g + t * n), NF_OK);
        cr_assert_eq(nf_vae_score(m, ws, &data, 3, 6, NULL, NULL, &s[t]), NF_OK);
        cr_assert_eq(memcmp(&r[t].loss, &r[0].loss, sizeof(double)), 0);
        cr_assert_arr_eq(g + t * n, g, n * sizeof *g);
        cr_assert_eq(memcmp(&s[t], &s[0], sizeof s[0]), 0);
        nf_workspace_free(ws);
    }
    free(g);
    nf_objective_free(o);
    nf_model_free(m);
}

Test(vae, training_raises_the_elbo)
{
    for (int which = 0; which < 2; which++) {
        nf_likelihood likelihood = which ? NF_GAUSSIAN : NF_BERNOULLI;
        nf_model *m = small_vae(likelihood, true, 11);
        nf_data data = small_data(likelihood, 600);
        nf_vae_scores before, after;
        cr_assert_eq(nf_vae_score(m, NULL, &data, 5, 1, NULL, NULL, &before), NF_OK);
        nf_objective *o = nf_vae_elbo(m, &data, &(nf_vae_options){.kl = {.kind = NF_LINEAR, .to = 1, .steps = 100}});
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 600, .rate = 0.01, .threads = 1}, NULL), NF_OK);
        cr_assert_eq(nf_vae_score(m, NULL, &data, 5, 1, NULL, NULL, &after), NF_OK);
        cr_assert_gt(after.elbo, before.elbo + 1, "likelihood %d: %g -> %g", which, before.elbo, after.elbo);
        cr_assert_gt(after.log_px, after.elbo);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* ---- scores ---- */

/* x = w z + b + e, e_i ~ N(0, exp(2 t_i)), z ~ N(0, 1): p(x) and p(z | x) are Gaussian. theta of an affine encoder,
   then that of an affine decoder. `error` spoils the exact posterior. */
enum { LX = 4 };
static const double lw[LX] = {0.9, -0.4, 0.25, 1.3}, lb[LX] = {0.3, -1.1, 0.2, 0.7}, lt[LX] = {-0.3, 0.2, 0.1, -0.5};

static nf_model *linear_vae(double error)
{
    nf_model *m = nf_model_of_vae(
        nf_vae_new(nf_mlp(LX, 2, 0, NULL), nf_diagonal_posterior(1), nf_mlp(1, 2 * LX, 0, NULL), NF_GAUSSIAN), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    double precision = 1;
    for (size_t i = 0; i < LX; i++)
        precision += lw[i] * lw[i] * exp(-2 * lt[i]);
    nf_real *encoder = nf_model_theta(m), *decoder = encoder + 2 * (LX + 1);
    memset(encoder, 0, nf_model_shape(m)->n_params * sizeof *encoder);
    double b = error;
    for (size_t i = 0; i < LX; i++) {
        double gain = lw[i] * exp(-2 * lt[i]) / precision;
        encoder[i] = (nf_real)(gain * (1 - 0.5 * error));
        b -= gain * lb[i];
        decoder[i] = (nf_real)lw[i];
        decoder[2 * LX + i] = (nf_real)lb[i];
        decoder[3 * LX + i] = (nf_real)lt[i];
    }
    encoder[2 * LX] = (nf_real)b;
    encoder[2 * LX + 1] = (nf_real)(-0.5 * log(precision) + error);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

/* log N(x; b, w w^T + diag exp(2 t)) by Sherman and Morrison. */
static double linear_log_px(const nf_real *x)
{
    double q = 0, dot = 0, s = 1, log_det = 0;
    for (size_t i = 0; i < LX; i++) {
        double r = (double)x[i] - lb[i], p = exp(-2 * lt[i]);
        q += r * r * p;
        dot += lw[i] * r * p;
        s += lw[i] * lw[i] * p;
        log_det += 2 * lt[i];
    }
    return -0.5 * (LX * log_2pi + log_det + log(s) + q - dot * dot / s);
}

Test(vae, exact_posterior_gives_log_p_in_one_draw)
{
    enum { N = 50 };
    static nf_real x[N * LX];
    draw(14, N * LX, 1.4, x);
    double exact = 0;
    for (size_t i = 0; i < N; i++)
        exact += linear_log_px(x + i * LX) / N;
    nf_model *m = linear_vae(0);
    nf_data data = {.n = N, .dim = LX, .x = x};
    nf_vae_scores s;
    cr_assert_eq(nf_vae_score(m, NULL, &data, 1, 2, NULL, NULL, &s), NF_OK);
    cr_assert_float_eq(s.elbo, exact, 20 * tolerance);
    cr_assert_float_eq(s.log_px, exact, 20 * tolerance);
    nf_model_free(m);
}

Test(vae, importance_sampling_is_unbiased_and_bounds_the_elbo)
{
    enum { N = 6, SEEDS = 40, DRAWS = 200 };
    static nf_real x[N * LX];
    draw(15, N * LX, 1.2, x);
    nf_model *m = linear_vae(0.25);
    for (size_t i = 0; i < N; i++) {
        nf_data one = {.n = 1, .dim = LX, .x = x + i * LX};
        double exact = linear_log_px(x + i * LX), mean = 0, square = 0, elbo = 0;
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            nf_vae_scores s;
            cr_assert_eq(nf_vae_score(m, NULL, &one, DRAWS, seed, NULL, NULL, &s), NF_OK);
            cr_assert_gt(s.log_px, s.elbo, "log p(x) of several draws lies above the ELBO");
            double ratio = exp(s.log_px - exact); /* has mean 1 */
            mean += ratio / SEEDS;
            square += ratio * ratio / SEEDS;
            elbo += s.elbo / SEEDS;
        }
        double se = sqrt((square - mean * mean) / (SEEDS - 1));
        cr_assert_lt(fabs(mean - 1), 4 * se, "row %zu: %g +- %g", i, mean, se);
        cr_assert_lt(se, 0.02);
        cr_assert_lt(elbo, exact - 0.01);
    }
    nf_model_free(m);
}

/* The streamed sum against one over stored weights, from nf_vae_encode and nf_vae_decode at the same noise. */
Test(vae, streaming_is_the_direct_sum)
{
    enum { N = 700, DRAWS = 9 }; /* rows enough for several tiles and calls of progress */
    for (int which = 0; which < 2; which++) {
        nf_model *m = which ? linear_vae(0.8) : small_vae(NF_BERNOULLI, true, 13);
        size_t dim = which ? LX : X, dim_z = which ? 1 : Z;
        nf_data data = small_data(NF_BERNOULLI, N);
        static nf_real grey[N * LX];
        draw(17, N * LX, 30, grey); /* far out: log w near -1000, whose exp is 0 */
        if (which)
            data = (nf_data){.n = N, .dim = LX, .x = grey};
        static double log_w[DRAWS][N], log_q[N];
        static nf_real z[N * Z], mean[N * X];
        double elbo = 0, log_px = 0, kl = 0;
        for (size_t k = 0; k < DRAWS; k++) {
            nf_noise noise = {.seed = 23, .step = k};
            cr_assert_eq(nf_vae_encode(m, NULL, &noise, N, data.x, z, log_q), NF_OK);
            cr_assert_eq(nf_vae_decode(m, NULL, NULL, N, z, mean), NF_OK);
            for (size_t i = 0; i < N; i++) {
                double log_pz = 0, log_pxz = 0;
                for (size_t j = 0; j < dim_z; j++)
                    log_pz -= 0.5 * ((double)z[i * dim_z + j] * (double)z[i * dim_z + j] + log_2pi);
                for (size_t j = 0; j < dim; j++) {
                    double v = (double)data.x[i * dim + j], mu = (double)mean[i * dim + j];
                    double e = which ? (v - mu) / exp(lt[j]) : 0;
                    log_pxz += which ? -0.5 * (e * e + log_2pi) - lt[j] : v > 0 ? log(mu) : log1p(-mu);
                }
                log_w[k][i] = log_pxz + log_pz - log_q[i];
                kl += (log_q[i] - log_pz) / N / DRAWS;
                elbo += log_w[k][i] / N / DRAWS;
            }
        }
        for (size_t i = 0; i < N; i++) {
            double top = -INFINITY, sum = 0;
            for (size_t k = 0; k < DRAWS; k++)
                top = fmax(top, log_w[k][i]);
            for (size_t k = 0; k < DRAWS; k++)
                sum += exp(log_w[k][i] - top) / DRAWS;
            log_px += (top + log(sum)) / N;
        }
        nf_vae_scores s;
        cr_assert_eq(nf_vae_score(m, NULL, &data, DRAWS, 23, NULL, NULL, &s), NF_OK);
        double scale = 10 + fabs(elbo);
        cr_assert_float_eq(s.elbo, elbo, tolerance * scale);
        cr_assert_float_eq(s.log_px, log_px, tolerance * scale);
        cr_assert_float_eq(s.kl, kl, tolerance * scale);
        cr_assert_lt(which ? s.log_px : -1000, -700, "the test should be hard");
        nf_model_free(m);
    }
}

static int stop_at(void *user, size_t done)
{
    size_t *seen = user;
    *seen = done;
    return done >= 1024;
}

Test(vae, scoring_reports_and_stops)
{
    nf_model *m = small_vae(NF_BERNOULLI, false, 3);
    nf_data data = small_data(NF_BERNOULLI, 3000);
    size_t seen = 0;
    nf_vae_scores s;
    cr_assert_eq(nf_vae_score(m, NULL, &data, 1, 1, stop_at, &seen, &s), NF_ESTOP);
    cr_assert_eq(seen, 1024);
    data.n = 900;
    cr_assert_eq(nf_vae_score(m, NULL, &data, 1, 1, stop_at, &seen, &s), NF_OK);
    cr_assert_eq(seen, 900);
    nf_model_free(m);
}

Test(vae, prior_draws_are_those_of_the_decoder)
{
    enum { N = 5 };
    nf_model *m = small_vae(NF_GAUSSIAN, false, 3);
    nf_noise noise = {.seed = 8, .step = 2};
    nf_real z[N * Z], tile[Z * 16], a[N * X], b[N * X];
    nf_noise_normal(&noise, Z, N, 16, tile);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < Z; j++)
            z[i * Z + j] = tile[j * 16 + i];
    cr_assert_eq(nf_vae_decode(m, NULL, &noise, N, NULL, a), NF_OK);
    cr_assert_eq(nf_vae_decode(m, NULL, NULL, N, z, b), NF_OK);
    cr_assert_arr_eq(a, b, sizeof a);
    nf_model_free(m);
}

Test(vae, model_files_keep_vaes)
{
    char path[] = "/tmp/nflow-vae-XXXXXX";
    int file = mkstemp(path);
    cr_assert_geq(file, 0);
    close(file);
    nf_model *m = small_vae(NF_GAUSSIAN, true, 19);
    nf_status status = nf_save(m, path);
    if (status != NF_EUNSUPPORTED) {
        cr_assert_eq(status, NF_OK, "%s", nf_error_message());
        nf_model *back = nf_load(path, NULL);
        cr_assert_not_null(back, "%s", nf_error_message());
        nf_data data = small_data(NF_GAUSSIAN, 40);
        nf_vae_scores a, b;
        cr_assert_eq(nf_vae_score(m, NULL, &data, 2, 1, NULL, NULL, &a), NF_OK);
        cr_assert_eq(nf_vae_score(back, NULL, &data, 2, 1, NULL, NULL, &b), NF_OK);
        cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
        nf_model_free(back);
    }
    remove(path);
    nf_model_free(m);
}

/* ---- misuse ---- */

static void refused(nf_net *encoder, nf_dist *posterior, nf_net *decoder, nf_likelihood likelihood, nf_status status,
                    const char *message)
{
    size_t before = alloc_live();
    (void)before;
    cr_assert_null(nf_vae_new(encoder, posterior, decoder, likelihood));
    cr_assert_eq(nf_error_status(), status);
    cr_assert(strstr(nf_error_message(), message), "\"%s\" should say \"%s\"", nf_error_message(), message);
}

Test(vae, parts_that_do_not_fit_are_refused)
{
    size_t before = alloc_live();
    refused(nf_mlp(9, 5, 0, NULL), nf_diagonal_posterior(2), nf_mlp(2, 9, 0, NULL), NF_BERNOULLI, NF_EDIM,
            "gives 5 features, but the posterior takes 4");
    refused(nf_mlp(9, 4, 0, NULL), nf_diagonal_posterior(2), nf_mlp(3, 9, 0, NULL), NF_BERNOULLI, NF_EDIM,
            "gives 2 features, but the decoder takes 3");
    refused(nf_mlp(9, 4, 0, NULL), nf_diagonal_posterior(2), nf_mlp(2, 18, 0, NULL), NF_BERNOULLI, NF_EDIM,
            "has 9 parameters, but the decoder gives 18");
    refused(nf_mlp(9, 4, 0, NULL), nf_diagonal_posterior(2), nf_mlp(2, 9, 0, NULL), NF_GAUSSIAN, NF_EDIM,
            "has 18 parameters, but the decoder gives 9");
    refused(nf_mlp(9, 4, 3, NULL), nf_diagonal_posterior(2), nf_mlp(2, 9, 0, NULL), NF_BERNOULLI, NF_EDIM,
            "encoder reads 3 features of context");
    refused(nf_mlp(9, 4, 0, NULL), nf_normal(2), nf_mlp(2, 9, 0, NULL), NF_BERNOULLI, NF_EDIM, "takes 0 features");
    refused(nf_mlp(9, 4, 0, NULL), nf_diagonal_posterior(2), nf_mlp(2, 9, 0, NULL), (nf_likelihood)7, NF_EARG,
            "7 is not a likelihood");
    refused(nf_mlp(4, 0, 0, NULL), nf_diagonal_posterior(2), nf_mlp(2, 9, 0, NULL), NF_BERNOULLI, NF_EARG, "nf_mlp");
    refused(nf_mlp(9, 4, 0, NULL), nf_diagonal_posterior(2), nf_mlp(2, 0, 0, NULL), NF_BERNOULLI, NF_EARG, "nf_mlp");
    cr_assert_eq(alloc_live(), before);
}

Test(vae, arguments_are_checked)
{
    nf_model *m = small_vae(NF_BERNOULLI, false, 1), *normal = nf_model_of_dist(nf_normal(2), NULL);
    nf_data data = small_data(NF_BERNOULLI, 5), wide = data, none = {.n = 0, .dim = X};
    wide.dim = X + 1;
    nf_vae_scores s;
    nf_real x[5 * X] = {0}, z[5 * Z] = {0};
    nf_noise noise = {.seed = 1};
    cr_assert_null(nf_vae_elbo(NULL, &data, NULL));
    cr_assert_null(nf_vae_elbo(normal, &data, NULL));
    cr_assert(strstr(nf_error_message(), "not of a VAE"));
    cr_assert_null(nf_vae_elbo(m, &data, &(nf_vae_options){.kl = {.from = 0.5}}));
    cr_assert(strstr(nf_error_message(), "nf_vae_elbo: `kl` goes from 0.5 to 0, but has no kind"));
    cr_assert_null(nf_vae_elbo(m, &data, &(nf_vae_options){.joint = {.kind = (nf_schedule_kind)-1}}));
    cr_assert(strstr(nf_error_message(), "`joint.kind` is -1"));
    cr_assert_null(nf_vae_elbo(m, NULL, NULL));
    cr_assert_null(nf_vae_elbo(m, &none, NULL));
    cr_assert_null(nf_vae_elbo(m, &wide, NULL));
    cr_assert_eq(nf_error_status(), NF_EDIM);
    cr_assert(strstr(nf_error_message(), "10 columns, but the encoder takes 9"));
    cr_assert_eq(nf_vae_score(NULL, NULL, &data, 1, 1, NULL, NULL, &s), NF_EARG);
    cr_assert_eq(nf_vae_score(normal, NULL, &data, 1, 1, NULL, NULL, &s), NF_EARG);
    cr_assert_eq(nf_vae_score(m, NULL, NULL, 1, 1, NULL, NULL, &s), NF_EARG);
    cr_assert_eq(nf_vae_score(m, NULL, &none, 1, 1, NULL, NULL, &s), NF_EARG);
    cr_assert_eq(nf_vae_score(m, NULL, &wide, 1, 1, NULL, NULL, &s), NF_EDIM);
    cr_assert_eq(nf_vae_score(m, NULL, &data, 0, 1, NULL, NULL, &s), NF_EARG);
    cr_assert_eq(nf_vae_score(m, NULL, &data, 1, 1, NULL, NULL, NULL), NF_EARG);
    cr_assert_eq(nf_vae_decode(normal, NULL, &noise, 5, z, x), NF_EARG);
    cr_assert_eq(nf_vae_decode(m, NULL, NULL, 5, NULL, x), NF_EARG);
    cr_assert_eq(nf_vae_decode(m, NULL, &noise, 5, z, NULL), NF_EARG);
    cr_assert_eq(nf_vae_decode(m, NULL, &noise, 0, z, x), NF_EARG);
    cr_assert_eq(nf_vae_encode(normal, NULL, &noise, 5, x, z, NULL), NF_EARG);
    cr_assert_eq(nf_vae_encode(m, NULL, NULL, 5, x, z, NULL), NF_EARG);
    cr_assert_eq(nf_vae_encode(m, NULL, &noise, 5, NULL, z, NULL), NF_EARG);
    cr_assert_eq(nf_vae_encode(m, NULL, &noise, 5, x, NULL, NULL), NF_EARG);
    cr_assert_eq(nf_vae_encode(m, NULL, &noise, 0, x, z, NULL), NF_EARG);
    nf_model_free(m);
    nf_model_free(normal);
}

/* Everything from construction to scores, each allocation failing in turn. */
static nf_status whole_story(const nf_data *data)
{
    nf_mlp_options o = {.hidden = (size_t[]){HIDDEN}, .n_hidden = 1, .activation = NF_TANH};
    nf_model *m = nf_model_of_vae(nf_vae_new(nf_mlp(X, 2 * Z + 2 * (2 * Z + 1) + Z + 2, 0, &o), small_posterior(true),
                                             nf_mlp(Z, X, 0, &o), NF_BERNOULLI),
                                  NULL);
    if (!m)
        return nf_error_status();
    nf_objective *e = nf_vae_elbo(m, data, NULL);
    nf_workspace *ws = e ? nf_workspace_new(1) : NULL;
    nf_status status = ws ? NF_OK : nf_error_status();
    static nf_real g[1000], x[40 * X];
    nf_step_report report;
    nf_vae_scores scores;
    if (status == NF_OK)
        status = nf_objective_gradient(e, ws, 1, 1, &report, g);
    if (status == NF_OK)
        status = nf_vae_score(m, NULL, data, 2, 1, NULL, NULL, &scores);
    if (status == NF_OK)
        status = nf_vae_decode(m, NULL, &(nf_noise){.seed = 1}, 40, NULL, x);
    nf_workspace_free(ws);
    nf_objective_free(e);
    nf_model_free(m);
    return status;
}

Test(vae, failed_allocations_leak_nothing)
{
    nf_data data = small_data(NF_BERNOULLI, 30);
    for (size_t k = 0;; k++) {
        size_t before = alloc_live();
        fail_alloc_after(k);
        nf_status status = whole_story(&data);
        bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), before, "allocation %zu", k);
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "allocation %zu: %s", k, nf_error_message());
        if (!failed)
            break;
    }
}
