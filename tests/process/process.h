/* What the programs of this folder share: a model, its scores, and children that must end in time. A program prints one
   line of why and exits with 1 if something is wrong. */
#ifndef PROCESS_H
#define PROCESS_H
#include <errno.h>
#include <nflow/nflow.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(condition, ...)                                \
    do                                                      \
        if (!(condition)) {                                 \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                   \
            fprintf(stderr, " (%s)\n", nf_error_message()); \
            _exit(1);                                       \
        }                                                   \
    while (0)

enum { ROWS = 700, DIM = 3, PATIENCE = 20 };
typedef struct scores {
    double log_p[ROWS];
    nf_real y[ROWS * DIM], g[200];
    double loss;
} scores;

static inline nf_model *process_model(void)
{
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_planar(DIM)), &(nf_model_options){.seed = 7});
    MUST(m, "no model");
    return m;
}

/* Everything that threads share: tiles, shards, a step. Returns the first status that is not NF_OK. */
static inline nf_status process_try(const nf_model *m, nf_workspace *ws, scores *s)
{
    static nf_real x[ROWS * DIM];
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < ROWS * DIM; i++)
        x[i] = NF_R(0.731) * (nf_real)(i % 11) - NF_R(2.385);
    nf_status status = nf_sample(m, ws, &(nf_noise){.seed = 3}, ROWS, NULL, s->y, s->log_p);
    if (status == NF_OK)
        status = nf_transform_vjp(m, ws, NULL, NF_FORWARD, ROWS, x, NULL, x, NULL, NULL, NULL, s->g);
    if (status != NF_OK)
        return status;
    nf_fit_report report;
    nf_model *fitted = process_model();
    nf_data data = {.n = ROWS, .dim = DIM, .x = x};
    nf_objective *o = nf_maximum_likelihood(fitted, &data, &(nf_likelihood_options){.batch = ROWS});
    status = o ? nf_fit(o, &(nf_fit_options){.steps = 3, .threads = nf_workspace_threads(ws)}, &report) : NF_ENOMEM;
    s->loss = status == NF_OK ? report.loss : 0;
    nf_objective_free(o);
    nf_model_free(fitted);
    return status;
}

static inline void process_scores(const nf_model *m, nf_workspace *ws, scores *s)
{
    MUST(process_try(m, ws, s) == NF_OK, "no scores");
}

/* Runs `work` in a child, which must exit with 0 within PATIENCE seconds and print nothing. */
static inline void in_child(const char *what, void (*work)(void *user), void *user)
{
    const pid_t pid = fork();
    MUST(pid >= 0, "fork");
    if (pid == 0) {
        alarm(PATIENCE);
        work(user);
        _exit(0);
    }
    int how;
    MUST(waitpid(pid, &how, 0) == pid, "waitpid");
    MUST(!WIFSIGNALED(how), "%s: signal %d%s", what, WTERMSIG(how), WTERMSIG(how) == SIGALRM ? ", it hangs" : "");
    MUST(WEXITSTATUS(how) == 0, "%s: exit status %d", what, WEXITSTATUS(how));
}

#endif
