/* A program outside the tree, in C and in C++: prints the precision and a mean of a planar flow's draws, and says
   whether the draws and their log-densities are what nf_log_prob makes of them. */
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

#define CHECK(what)                                                       \
    do {                                                                  \
        if (!(what)) {                                                    \
            fprintf(stderr, "%s fails: %s\n", #what, nf_error_message()); \
            return 1;                                                     \
        }                                                                 \
    } while (0)

int main(int argc, char **argv)
{
    enum { N = 37 };
    nf_flow *layers[2];
    layers[0] = nf_planar(3);
    layers[1] = nf_radial(3);
    nf_model_options options;
    memset(&options, 0, sizeof options);
    options.seed = 7;
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(3), nf_chain(layers, 2)), &options);
    CHECK(q);
    nf_noise noise;
    memset(&noise, 0, sizeof noise);
    noise.seed = 11;
    nf_real x[N * 3];
    double log_q[N], log_p[N], worst = 0;
    CHECK(nf_sample(q, NULL, &noise, N, NULL, x, log_q) == NF_OK);
    CHECK(nf_log_prob(q, NULL, NULL, N, x, NULL, log_p) == NF_OK);
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs(log_q[i] - log_p[i]));
    CHECK(worst < (sizeof(nf_real) == sizeof(float) ? 1e-3 : 1e-9));
    CHECK(nf_sample(q, NULL, NULL, N, NULL, x, log_q) == NF_EARG);
    CHECK(strstr(nf_error_message(), "nf_sample"));
    nf_model_free(q);
    printf("%s %zu\n", nf_version(), sizeof(nf_real));
    return argc > 1 && strcmp(argv[1], nf_version()) != 0;
}
