/* How much memory a fused step takes: what a tile needs, and a few gradients, not what the batch does.

   Set aside is the caller's array, and only that: of its rows' numbers and order nothing is kept. What is measured is
   everything that the library holds at its worst moment: tapes, scratch, gradients, the optimizer's arrays. */
#include "object/workspace.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <nflow/nflow.h>
#include <stdlib.h>

/* Sanitizers see the same with fewer samples and steps. */
enum {
    N = NFLOW_THIN ? 1 << 13 : 1 << 16,
    SMALL = 512,
    LARGE = NFLOW_THIN ? N : 64 * SMALL,
    FEW_STEPS = 5,
    MANY_STEPS = NFLOW_THIN ? 20 : 60,
    DIM = 6
};

static const size_t hidden[] = {32, 32}, width[] = {32};

static nf_flow *flow_of(size_t which)
{
    const nf_recipe_options perceptron = {.hidden = hidden, .n_hidden = 2, .n_layers = 10};
    const nf_recipe_options residual = {.hidden = width, .n_hidden = 1, .n_blocks = 2, .n_layers = 5};
    switch (which) {
    case 0:
        return nf_maf(DIM, &perceptron);
    case 1:
        return nf_realnvp(DIM, &perceptron);
    default:
        return nf_nsf_coupling(DIM, &residual);
    }
}
enum { N_FLOWS = 3 };

typedef struct fixture {
    nf_model *m;
    nf_real *x, *y, *g;
    double *log;
    nf_objective *o;
} fixture;

static fixture set_up(size_t which, size_t batch)
{
    fixture f = {.m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), flow_of(which)), NULL)};
    cr_assert_not_null(f.m, "%s", nf_error_message());
    f.x = malloc(N * DIM * sizeof *f.x);
    f.y = malloc(N * DIM * sizeof *f.y);
    f.g = malloc(nf_model_gradient_size(f.m) * sizeof *f.g);
    f.log = malloc(N * sizeof *f.log);
    const nf_noise noise = {.seed = 71};
    nf_noise_normal(&noise, N * DIM / 16, 16, 16, f.x);
    f.o =
        nf_maximum_likelihood(f.m, &(nf_data){.n = N, .dim = DIM, .x = f.x}, &(nf_likelihood_options){.batch = batch});
    cr_assert(f.x && f.y && f.g && f.log && f.o);
    return f;
}

static void tear_down(fixture *f)
{
    nf_objective_free(f->o);
    nf_model_free(f->m);
    free(f->x);
    free(f->y);
    free(f->g);
    free(f->log);
}

/* ---- the batch ---- */

/* The most that a fit of two steps holds. */
static size_t bytes_of_fit(size_t which, size_t batch)
{
    fixture f = set_up(which, batch);
    const size_t before = alloc_bytes();
    (void)alloc_peak();
    nf_fit_report report;
    cr_assert_eq(nf_fit(f.o, &(nf_fit_options){.steps = 2, .threads = 1}, &report), NF_OK);
    const size_t bytes = alloc_peak() - before;
    cr_assert_leq(report.bytes, bytes);
    /* at the least: a tape of 64 samples, and Adam's two arrays */
    const nf_shape *s = nf_model_shape(f.m);
    cr_assert_geq(bytes, (64 * s->n_saved + 2 * s->n_params) * sizeof(nf_real));
    tear_down(&f);
    return bytes;
}

/* The workspace of a step on two threads; one that came too late for a tile is counted as the other. */
static size_t bytes_of_team(size_t which, size_t batch)
{
    fixture f = set_up(which, batch);
    nf_workspace *ws = nf_workspace_new(2);
    cr_assert_eq(nf_objective_gradient(f.o, ws, 1, 0, NULL, f.g), NF_OK);
    size_t most = 0;
    for (size_t i = 0; i < 2; i++) {
        const size_t bytes = nfi_arena_bytes(&ws->thread[i].tape) + nfi_arena_bytes(&ws->thread[i].scratch);
        most = bytes > most ? bytes : most;
    }
    most = nfi_arena_bytes(&ws->shared) + 2 * most;
    cr_assert_leq(nf_workspace_bytes(ws), most);
    nf_workspace_free(ws);
    tear_down(&f);
    return most;
}

Test(memory, of_a_step_does_not_grow_with_the_batch)
{
    for (size_t k = 0; k < N_FLOWS; k++) {
        const size_t small = bytes_of_fit(k, SMALL), large = bytes_of_fit(k, N);
        cr_assert(5 * large <= 6 * small && 5 * small <= 6 * large, "flow %zu: %zu bytes, or %zu", k, small, large);
        const size_t two = bytes_of_team(k, SMALL), more = bytes_of_team(k, LARGE);
        cr_assert(5 * more <= 6 * two && 5 * two <= 6 * more, "flow %zu, 2 threads: %zu bytes, or %zu", k, two, more);
    }
}

/* Light flows have wider tiles in large batches, but a tape never more than a quarter of a megabyte for it. */
Test(memory, of_wide_tiles_is_bounded)
{
    nf_flow *layer[32];
    for (size_t k = 0; k < 32; k++)
        layer[k] = nf_planar(2);
    nf_model *m = nf_model_of_flow(nf_chain(layer, 32), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    fixture f = set_up(0, SMALL);
    cr_assert_eq(nf_transform_vjp(m, ws, NULL, NF_FORWARD, N, f.x, NULL, f.y, f.x, NULL, NULL, NULL), NF_OK);
    cr_assert_leq(nf_workspace_bytes(ws), (size_t)5 << 18); /* chunks double, and there is scratch too */
    nf_workspace_free(ws);
    nf_model_free(m);
    tear_down(&f);
}

/* ---- the depth ---- */

/* Tapes and scratch of a step of a Glow on 8 x 8 pixels; what a sample takes on the tape, as the tiles' width is chosen
   by it. Gradients are not among them: they are as long as the parameters. */
static size_t bytes_of_glow(nf_recompute recompute, size_t depth, size_t *n_saved)
{
    enum { IMAGES = 32, PIXELS = 64 };
    nf_real x[IMAGES * PIXELS];
    nf_noise_normal(&(nf_noise){.seed = 72}, IMAGES * PIXELS / 16, 16, 16, x);
    nf_flow *glow =
        nf_glow((nf_image){1, 8, 8},
                &(nf_image_recipe_options){.n_levels = 2, .n_steps = depth, .hidden = 32, .recompute = recompute});
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(PIXELS), glow), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    *n_saved = nf_model_shape(m)->n_saved;
    nf_real *g = malloc(nf_model_gradient_size(m) * sizeof *g);
    nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = IMAGES, .dim = PIXELS, .x = x},
                                            &(nf_likelihood_options){.batch = IMAGES});
    nf_workspace *ws = nf_workspace_new(1);
    cr_assert(g && o && ws);
    cr_assert_eq(nf_objective_gradient(o, ws, 1, 0, NULL, g), NF_OK);
    const size_t bytes = nfi_arena_bytes(&ws->thread[0].tape) + nfi_arena_bytes(&ws->thread[0].scratch);
    nf_workspace_free(ws);
    nf_objective_free(o);
    nf_model_free(m);
    free(g);
    return bytes;
}

Test(memory, of_recomputed_layers_does_not_grow_with_their_number)
{
    size_t saved[4];
    const size_t few = bytes_of_glow(NF_RECOMPUTE_ALWAYS, 2, &saved[0]),
                 many = bytes_of_glow(NF_RECOMPUTE_ALWAYS, 10, &saved[1]);
    cr_assert_leq(20 * many, 21 * few, "%zu bytes, or %zu", few, many);
    cr_assert_eq(saved[0], saved[1]);
    const size_t kept = bytes_of_glow(NF_RECOMPUTE_NEVER, 2, &saved[2]),
                 all = bytes_of_glow(NF_RECOMPUTE_NEVER, 10, &saved[3]);
    cr_assert_geq(all, 2 * kept, "%zu bytes, or %zu", kept, all);
    cr_assert_geq(saved[3], 4 * saved[2]);
}

/* ---- allocations ---- */

/* One of each call that takes a workspace. */
static void call_all(fixture *f, nf_workspace *ws, uint64_t step)
{
    nf_step_report report;
    const nf_noise noise = {.seed = 5, .step = step};
    const size_t n = SMALL + 1; /* another tiling than the batch's */
    cr_assert_eq(nf_objective_gradient(f->o, ws, 1, step, &report, f->g), NF_OK);
    cr_assert_eq(nf_objective_value(f->o, ws, 1, step, &report), NF_OK);
    cr_assert_eq(nf_log_prob(f->m, ws, NULL, n, f->x, NULL, f->log), NF_OK);
    cr_assert_eq(nf_sample(f->m, ws, &noise, n, NULL, f->y, f->log), NF_OK);
    for (int d = 0; d < 2; d++) {
        const nf_direction direction = d ? NF_FORWARD : NF_INVERSE;
        cr_assert_eq(nf_transform(f->m, ws, NULL, direction, n, f->x, NULL, f->y, f->log), NF_OK);
        cr_assert_eq(nf_transform_vjp(f->m, ws, NULL, direction, n, f->x, NULL, f->x, NULL, f->y, NULL, f->g), NF_OK);
    }
}

Test(memory, nothing_is_allocated_once_every_call_has_been_made)
{
    for (size_t k = 0; k < N_FLOWS; k++) {
        fixture f = set_up(k, SMALL);
        nf_workspace *ws = nf_workspace_new(1);
        call_all(&f, ws, 0);
        const size_t count = alloc_count(), bytes = nf_workspace_bytes(ws);
        for (uint64_t step = 1; step <= (NFLOW_THIN ? 3 : 10); step++)
            call_all(&f, ws, step);
        cr_assert_eq(alloc_count(), count, "flow %zu: %zu allocations", k, alloc_count() - count);
        cr_assert_eq(nf_workspace_bytes(ws), bytes);
        nf_workspace_free(ws);
        tear_down(&f);
    }
}

/* Allocations of a fit of so many steps. */
static size_t allocations(const fixture *f, size_t threads, uint64_t steps)
{
    const size_t before = alloc_count();
    const nf_fit_options options = {.steps = steps, .threads = threads, .validation = f->o, .validate_every = 5};
    cr_assert_eq(nf_fit(f->o, &options, NULL), NF_OK);
    return alloc_count() - before;
}

Test(memory, later_steps_of_a_fit_allocate_nothing)
{
    for (size_t k = 0; k < N_FLOWS; k++) {
        fixture f = set_up(k, SMALL);
        cr_assert_eq(allocations(&f, 1, MANY_STEPS), allocations(&f, 1, FEW_STEPS), "flow %zu", k);
        /* of two threads one may get its first tile late: some chunks then, not one a step */
        cr_assert_leq(allocations(&f, 2, MANY_STEPS), allocations(&f, 2, FEW_STEPS) + 12, "flow %zu", k);
        tear_down(&f);
    }
}
