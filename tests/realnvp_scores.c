/* Writes a RealNVP that has seen some steps of training, rows, and their log-densities, for tests/score_realnvp.py.
   usage: realnvp_scores MODEL ROWS SCORES */
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>

enum { DIM = 5, ROWS = 200, FLOWS = 2 };

static int fail(const char *what)
{
    fprintf(stderr, "realnvp_scores: %s: %s\n", what, nf_error_message());
    return 1;
}

/* Rows in columns of different units, of which each depends on the one before. */
static void make_rows(nf_real *x)
{
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < DIM; j++) {
            const double before = j ? (double)x[i * DIM + j - 1] : 7;
            x[i * DIM + j] = (nf_real)((double)(j + 1) * sin(12.9898 * (double)i + 78.233 * (double)j) + sin(before));
        }
}

static nf_model *trained(const nf_real *x)
{
    const nf_recipe_options options = {.n_layers = 4, .hidden = (const size_t[]){16, 12}, .n_hidden = 2};
    nf_flow *f = nf_chain((nf_flow *[FLOWS]){nf_realnvp(DIM, &options), nf_actnorm(DIM)}, FLOWS);
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), f),
                                   &(nf_model_options){.seed = 7, .n_init = ROWS, .init_x = x});
    nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = DIM, .x = x}, NULL);
    const nf_status status =
        o ? nf_fit(o, &(nf_fit_options){.steps = 60, .rate = 0.01, .threads = 1}, NULL) : nf_error_status();
    nf_objective_free(o);
    if (status == NF_OK)
        return m;
    nf_model_free(m);
    return NULL;
}

int main(int argc, char **argv)
{
    static nf_real x[ROWS * DIM];
    static double log_p[ROWS];
    if (argc != 4)
        return fail("three arguments");
    make_rows(x);
    nf_model *m = trained(x);
    if (!m || nf_log_prob(m, NULL, NULL, ROWS, x, NULL, log_p) != NF_OK || nf_save(m, argv[1]) != NF_OK)
        return fail(argv[1]);
    nf_model_free(m);
    FILE *rows = fopen(argv[2], "w"), *scores = fopen(argv[3], "w");
    if (!rows || !scores)
        return fail(argv[2]);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t j = 0; j < DIM; j++)
            fprintf(rows, "%.17g%c", (double)x[i * DIM + j], j + 1 < DIM ? ',' : '\n');
        fprintf(scores, "%.17g\n", log_p[i]);
    }
    return fclose(rows) | fclose(scores);
}
