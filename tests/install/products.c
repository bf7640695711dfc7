/* The best time of LU-linear layers, which are all matrix products. Built with and without -lgsl -lgslcblas in front:
   the second must not be slower, for then the products have become GSL's. */
#include <nflow/nflow.h>
#include <stdio.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    enum { N = 512, D = 512 };
    static nf_real x[N * D], y[N * D];
    for (size_t i = 0; i < N * D; i++)
        x[i] = (nf_real)(i % 17) / 16;
    nf_model *flow = nf_model_of_flow(nf_chain((nf_flow *[]){nf_lu_linear(D, 1), nf_lu_linear(D, 2)}, 2), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    double best = 1e9;
    for (int k = 0; k < 12; k++) {
        double start = now();
        if (!flow || !ws || nf_transform(flow, ws, NULL, NF_FORWARD, N, x, NULL, y, NULL) != NF_OK) {
            fprintf(stderr, "%s\n", nf_error_message());
            return 1;
        }
        double took = now() - start;
        best = took < best ? took : best;
    }
    nf_workspace_free(ws);
    nf_model_free(flow);
    printf("%.6f\n", best);
    return 0;
}
