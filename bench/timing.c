#include "timing.h"
#include "cli.h"
#include "output.h"
#include <stdlib.h>

void timing_start(timing *t, double start, size_t steps_a_block)
{
    *t = (timing){.steps_a_block = steps_a_block, .start = start};
}

int timing_step(void *user, const nf_progress *p)
{
    timing *t = user;
    if (p->step == 1)
        t->first_step = cli_seconds() - t->start;
    if (p->step % t->steps_a_block)
        return 0;
    double now = cli_seconds();
    if (t->begin > 0 && t->n_blocks < TIMING_BLOCKS) /* the first block warms up */
        t->block[t->n_blocks++] = (now - t->begin) / (double)t->steps_a_block;
    t->begin = now;
    return 0;
}

void timing_train(timing *t, nf_model *m, size_t n, size_t dim, const nf_real *x, size_t steps, size_t threads)
{
    const nf_data data = {.n = n, .dim = dim, .x = x};
    nf_objective *loss = cli_made(nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = n}));
    nf_fit_report report;
    cli_ok(nf_fit(
        loss, &(nf_fit_options){.steps = steps, .rate = 1e-4, .threads = threads, .callback = timing_step, .user = t},
        &report));
    t->bytes = report.bytes;
    nf_objective_free(loss);
}

void timing_report(timing *t, const char *json_path, const char *workload, size_t threads)
{
    const char *precision = sizeof(nf_real) == 8 ? "double" : "float";
    if (t->n_blocks == 0)
        cli_fail(2, "too few steps: a block is %zu, and the first one warms up", t->steps_a_block);
    cli_sort(t->n_blocks, t->block);
    double median = t->block[t->n_blocks / 2];
    printf("%-36s %-6s %s, %zu threads  %10.2f us a step (best %.2f)  first step after %.1f ms\n", workload, precision,
           nf_instruction_set(), threads, 1e6 * median, 1e6 * t->block[0], 1e3 * t->first_step);
    if (t->evaluations > 0)
        printf("%-36s %.1f evaluations of the net a step, of them %.1f for the gradient\n", "", t->evaluations,
               t->recomputed);
    if (t->bytes)
        printf("%-36s %.1f MB of workspace\n", "", 1e-6 * (double)t->bytes);
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "workload", workload);
    js_text(j, "precision", precision);
    js_text(j, "instruction_set", nf_instruction_set());
    js_integer(j, "threads", threads);
    js_number(j, "step_seconds", median);
    js_number(j, "best_step_seconds", t->block[0]);
    js_number(j, "first_step_seconds", t->first_step);
    if (t->evaluations > 0) {
        js_number(j, "evaluations", t->evaluations);
        js_number(j, "recomputed", t->recomputed);
    }
    if (t->bytes)
        js_integer(j, "bytes", t->bytes);
    js_end(j);
    js_close(j);
}
