/* Writes draws.csv, draws.npy and inits_1.json .. to a folder, for tests/draws.py: numbers that Python can compute,
   too. The comment k_hat is that of nf_psis(). Usage: draws_files FOLDER */
#include <math.h>
#include <nflow/draws.h>
#include <nflow/importance.h>
#include <stdio.h>
#include <unistd.h>

enum { N = 1000, K = 15, CHAINS = 4 };

static int failed(void)
{
    fprintf(stderr, "draws_files: %s\n", nf_error_message());
    return 1;
}

int main(int argc, char **argv)
{
    static const char *const names[K] = {"mu",        "theta.1",   "theta.2",   "theta.3",   "theta.4",
                                         "theta.5",   "theta.6",   "theta.7",   "theta.8",   "Sigma.1.1",
                                         "Sigma.2.1", "Sigma.1.2", "Sigma.2.2", "Sigma.1.3", "Sigma.2.3"};
    static double values[N * K], log_p[N], log_q[N], log_ratio[N];
    if (argc != 2 || chdir(argv[1]) != 0)
        return 2;
    double state = 20261128;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < K; k++)
            values[i * K + k] = (double)((i * 7919 + k * 104729) % 1000003) / 1000003 + (double)k;
        state = fmod(16807 * state, 2147483647);
        log_q[i] = -(double)(i % 17) / 3;
        log_p[i] = log_q[i] - 1000 + state / 2147483647 * 3;
        log_ratio[i] = log_p[i] - log_q[i];
    }
    nf_psis_report report;
    char comments[100];
    const nf_draws draws = {.n = N, .n_outputs = K, .names = names, .values = values, .log_p = log_p, .log_q = log_q};
    if (nf_psis(N, log_ratio, NULL, &report) != NF_OK)
        return failed();
    snprintf(comments, sizeof comments, "model = eight_schools\nk_hat = %.17g\n", report.k_hat);
    if (nf_save_draws_csv("draws.csv", &draws, comments) != NF_OK || nf_save_draws_npy("draws.npy", &draws) != NF_OK ||
        nf_save_inits("inits.json", &draws, CHAINS, NULL) != NF_OK)
        return failed();
    return 0;
}
