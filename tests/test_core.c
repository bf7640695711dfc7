/* The ground: statuses, arenas, object trees, tiles, deterministic sums, models bound to arrays. */
#include "base/memory.h"
#include "model/model.h"
#include "object/shards.h"
#include "object/tiles.h"
#include "object/tree.h"
#include <criterion/criterion.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

/* ---- status ---- */

Test(status, values_are_pinned_and_have_texts)
{
    const struct {
        nf_status status;
        int value;
    } pinned[] = {{NF_OK, 0},      {NF_EARG, 1},         {NF_EDIM, 2},       {NF_ENOMEM, 3},
                  {NF_EFORMAT, 4}, {NF_EIO, 5},          {NF_ENOTFINITE, 6}, {NF_ENOCONV, 7},
                  {NF_ESTOP, 8},   {NF_EUNSUPPORTED, 9}, {NF_ETARGET, 10},   {NF_ESTALE, 11}};
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        cr_assert_eq((int)pinned[i].status, pinned[i].value);
        cr_assert(strlen(nf_status_text(pinned[i].status)) > 3);
        for (size_t j = 0; j < i; j++)
            cr_assert_str_neq(nf_status_text(pinned[i].status), nf_status_text(pinned[j].status));
    }
    cr_assert_str_eq(nf_status_text((nf_status)99), "unknown status");
}

Test(status, message_is_kept_by_success_and_may_quote_itself)
{
    cr_assert_eq(nf_error(NF_EDIM, "layer %d", 7), NF_EDIM);
    nf_flow *f = nf_planar(3);
    nf_flow_free(f);
    cr_assert_str_eq(nf_error_message(), "layer 7");
    cr_assert_eq(nf_error(NF_EARG, "again: %s", nf_error_message()), NF_EARG);
    cr_assert_str_eq(nf_error_message(), "again: layer 7");
    cr_assert_eq(nf_error_status(), NF_EARG);
    char far_too_long[2000];
    memset(far_too_long, 'x', sizeof far_too_long - 1);
    far_too_long[sizeof far_too_long - 1] = 0;
    cr_assert_eq(nf_error(NF_EIO, "%s", far_too_long), NF_EIO);
    cr_assert_eq(strlen(nf_error_message()), 511);
}

/* Runs `work` on so many threads. */
static void on_threads(size_t threads, nfi_work_fn *work, void *user)
{
    nfi_pool pool;
    cr_assert_eq(nfi_pool_begin(&pool, threads), NF_OK);
    nfi_pool_run(&pool, threads, work, user);
    cr_assert_eq(nfi_pool_threads(&pool), threads);
    nfi_pool_end(&pool);
}

static void leave_a_message(void *right, size_t thread, size_t n_threads)
{
    (void)n_threads;
    char mine[32];
    snprintf(mine, sizeof mine, "thread %zu", thread);
    if (thread > 0)
        nf_error(NF_EIO, "%s", mine);
    atomic_fetch_add((atomic_size_t *)right, strcmp(nf_error_message(), thread ? mine : "outer") == 0);
}

Test(status, messages_belong_to_threads)
{
    atomic_size_t right = 0;
    cr_assert_eq(nf_error(NF_EARG, "outer"), NF_EARG);
    on_threads(4, leave_a_message, &right);
    cr_assert_eq(right, 4);
    cr_assert_str_eq(nf_error_message(), "outer");
}

/* ---- memory ---- */

Test(arena, keeps_pointers_valid_and_reuses_memory)
{
    nf_arena a = {0};
    unsigned char *block[200];
    size_t high = 0;
    for (int round = 0; round < 3; round++) {
        nf_mark mark = nf_arena_mark(&a);
        for (size_t i = 0; i < 200; i++) {
            block[i] = nf_arena_alloc(&a, 37 * (i + 1));
            cr_assert_not_null(block[i]);
            cr_assert_eq((uintptr_t)block[i] % 64, 0);
            memset(block[i], (int)i, 37 * (i + 1));
        }
        for (size_t i = 0; i < 200; i++)
            for (size_t k = 0; k < 37 * (i + 1); k++)
                cr_assert_eq(block[i][k], (unsigned char)i, "block %zu was overwritten", i);
        if (round == 0)
            high = nfi_arena_bytes(&a);
        cr_assert_eq(nfi_arena_bytes(&a), high, "the arena grew in round %d", round);
        nf_arena_rewind(&a, mark);
        cr_assert_eq(nfi_arena_used(&a), 0);
    }
    nfi_arena_clear(&a);
}

Test(arena, sizes_that_overflow_are_refused)
{
    nf_arena a = {0};
    cr_assert_null(nf_arena_alloc(&a, SIZE_MAX));
    cr_assert_eq(nf_error_status(), NF_ENOMEM);
    cr_assert_null(nfi_calloc(SIZE_MAX / 4, 8));
    cr_assert_eq(nf_error_status(), NF_ENOMEM);
    nfi_arena_clear(&a);
}

/* ---- trees ---- */

static size_t destroyed;
static void count_destroy(void *self)
{
    (void)self;
    destroyed++;
}
static nf_status no_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                          double *log_det, void **saved)
{
    (void)o, (void)d, (void)p, (void)x, (void)y, (void)log_det, (void)saved;
    return NF_OK;
}
static nf_status no_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                        void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)d, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)g_log_det, (void)gx, (void)g;
    return NF_OK;
}
static const nf_flow_type counted = {
    .part = {.name = "counted", .destroy = count_destroy}, .abi = sizeof counted, .apply = no_apply, .vjp = no_vjp};

static nf_flow *leaf(size_t n_params, size_t n_state, size_t n_prep, uint32_t n_sites)
{
    static char self;
    nf_shape own = {.dim_in = 2, .dim_out = 2, .n_params = n_params, .n_state = n_state, .n_prep = n_prep};
    own.n_sites = n_sites;
    return nf_flow_new(&counted, &own, &self, NULL, 0);
}

typedef struct names {
    char text[10][96];
    size_t offset[10], n;
} names;
static void collect(void *user, const char *name, size_t offset, size_t rank, const size_t *extents)
{
    names *all = user;
    (void)rank, (void)extents;
    snprintf(all->text[all->n], sizeof all->text[0], "%s", name);
    all->offset[all->n++] = offset;
}

Test(tree, children_are_laid_out_behind_their_parent)
{
    static char self;
    nf_object *children[] = {nf_flow_object(leaf(5, 1, 0, 0)), nf_flow_object(leaf(7, 2, 3, 4))};
    nf_shape own = {.dim_in = 2, .dim_out = 2, .n_params = 3, .n_state = 1, .n_prep = 2};
    nf_flow *f = nf_flow_new(&counted, &own, &self, children, 2);
    const nf_shape *s = nf_flow_shape(f);
    cr_assert_eq(s->n_params, 15);
    cr_assert_eq(s->n_state, 4);
    cr_assert_eq(s->n_prep, 5);
    cr_assert_eq(s->n_sites, 6);
    nf_real theta[15 * 16];
    nf_pass shared = {.n = 16, .ld = 16, .theta = theta, .noise.site = 10};
    nf_pass second = nf_child_pass(nf_flow_object(f), 1, &shared);
    cr_assert_eq(second.theta - theta, 8);
    cr_assert_eq(second.noise.site, 12);
    nf_pass each = shared;
    each.theta_stride = 1;
    cr_assert_eq(nf_child_pass(nf_flow_object(f), 1, &each).theta - theta, 8 * 16);
    names n = {.n = 0};
    nfi_tree_slices(nf_flow_object(f), collect, &n);
    cr_assert_eq(n.n, 3);
    cr_assert_str_eq(n.text[0], "theta");
    cr_assert_str_eq(n.text[2], "1.counted.theta");
    cr_assert_eq(n.offset[2], 8);
    destroyed = 0;
    nf_flow *again = nf_flow_ref(f);
    nf_flow_free(f);
    cr_assert_eq(destroyed, 0);
    nf_flow_free(again);
    cr_assert_eq(destroyed, 3);
}

Test(tree, failed_constructors_release_everything)
{
    static char self;
    nf_shape own = {.dim_in = 2, .dim_out = 2};
    nf_error(NF_ENOCONV, "the child's own message");
    destroyed = 0;
    nf_object *with_null[] = {nf_flow_object(leaf(1, 0, 0, 0)), NULL};
    cr_assert_null(nf_flow_new(&counted, &own, &self, with_null, 2));
    cr_assert_eq(destroyed, 2);
    cr_assert_str_eq(nf_error_message(),
                     "nf_flow_new: part 1 is NULL (the last error before this call: the child's own message)");
    cr_assert_eq(nf_error_status(), NF_ENOCONV);

    own = (nf_shape){.n_prep = 1, .flags = NF_PER_SAMPLE};
    cr_assert_null(nf_flow_new(&counted, &own, &self, NULL, 0));
    cr_assert_eq(nf_error_status(), NF_EARG);
    own = (nf_shape){.flags = NF_IMPLICIT_FORWARD | NF_IMPLICIT_INVERSE};
    cr_assert_null(nf_flow_new(&counted, &own, &self, NULL, 0));
    cr_assert_null(nf_flow_new(&counted, NULL, &self, NULL, 0));
    cr_assert_null(nf_flow_new(NULL, &own, NULL, NULL, 0));
    nf_flow_type old = counted;
    old.abi = 8;
    cr_assert_null(nf_flow_new(&old, &own, &self, NULL, 0)); /* a table that is too small to say how to release self */
    cr_assert_eq(destroyed, 5);
    own = (nf_shape){.n_params = SIZE_MAX - 2};
    nf_object *large[] = {nf_flow_object(leaf(5, 0, 0, 0))};
    cr_assert_null(nf_flow_new(&counted, &own, &self, large, 1));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_eq(destroyed, 7);
}

/* ---- tiles and sums ---- */

Test(tiles, cover_a_batch_with_equal_parts)
{
    const size_t sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 100, 128, 500, 512, 1000, 4097, 65536};
    const size_t costs[] = {0, 2, 1000, 10000, 200000, 100000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t c = 0; c < sizeof costs / sizeof *costs; c++) {
            nfi_tiling t = nfi_tile_batch(sizes[i], costs[c]);
            size_t least = SIZE_MAX, most = 0;
            for (size_t k = 0; k < t.n_tiles; k++) {
                size_t n = nfi_tile_first(&t, k + 1) - nfi_tile_first(&t, k);
                least = n < least ? n : least;
                most = n > most ? n : most;
            }
            cr_assert_eq(nfi_tile_first(&t, 0), 0);
            cr_assert_eq(nfi_tile_first(&t, t.n_tiles), sizes[i]);
            cr_assert(least >= 1 && most - least <= 1 && most <= t.ld && t.ld % 16 == 0 && t.ld < most + 16);
        }
    nfi_tiling hundred = nfi_tile_batch(100, 10);
    cr_assert_eq(hundred.n_tiles, 2);
}

/* A sample of padding costs as much as any other, and images leave few samples to a tile. */
Test(tiles, of_images_are_narrow_but_hardly_padded)
{
    const nfi_tiling images = nfi_tile_batch(64, 10000), large = nfi_tile_batch(64, 100000000);
    cr_assert(images.n_tiles == 2 && images.ld == 32, "%zu tiles of %zu", images.n_tiles, images.ld);
    cr_assert(large.n_tiles == 4 && large.ld == 16, "%zu tiles of %zu", large.n_tiles, large.ld);
}

Test(tiles, packing_round_trips_and_pads)
{
    enum { N = 21, DIM = 37, LD = 32, STRIDE = 40 };
    nf_real rows[N * STRIDE], tile[DIM * LD], back[N * STRIDE] = {0};
    for (size_t i = 0; i < N * STRIDE; i++)
        rows[i] = NF_R(0.37) * (nf_real)i - NF_R(11.5);
    nfi_pack(N, DIM, rows, STRIDE, LD, tile);
    for (size_t r = 0; r < DIM; r++)
        for (size_t s = 0; s < LD; s++)
            cr_assert_eq(tile[r * LD + s], rows[(s < N ? s : N - 1) * STRIDE + r]);
    nfi_unpack(N, DIM, tile, LD, back, STRIDE);
    for (size_t s = 0; s < N; s++)
        cr_assert_eq(memcmp(back + s * STRIDE, rows + s * STRIDE, DIM * sizeof(nf_real)), 0);
    nfi_pad_zero(DIM, N, LD, tile);
    cr_assert_eq(tile[LD - 1], 0);
    cr_assert_eq(tile[N - 1], rows[(N - 1) * STRIDE]);
}

enum { LENGTH = 301 };
/* Numbers of very different size, so that another order of summation would give other bits. */
static nf_status contribute(void *user, size_t tile, size_t first, size_t n, size_t ld, nfi_thread *memory,
                            size_t shard, bool fresh, nf_real *g)
{
    (void)ld, (void)memory, (void)shard, (void)user;
    for (size_t i = 0; fresh && i < LENGTH; i++)
        g[i] = 0;
    for (size_t i = 0; i < LENGTH; i++)
        for (size_t s = first; s < first + n; s++)
            g[i] += NF_R(1) / (nf_real)(1 + (s * 7919 + i * 31) % 10007) * ((tile + i) % 2 ? NF_R(1e4) : NF_R(-1e-3));
    return NF_OK;
}

typedef struct sum_work {
    nfi_thread *memory;
    nfi_sum sum;
    nfi_team team;
} sum_work;

static void work_on_sum(void *user, size_t thread, size_t n_threads)
{
    (void)n_threads;
    sum_work *w = user;
    nfi_sum_work(&w->sum, &w->memory[thread], contribute, NULL, &w->team);
}

static void sum_with(size_t threads, size_t n, nf_real *result)
{
    nf_workspace *ws = nf_workspace_new(threads);
    nfi_tiling t = nfi_tile_batch(n, 4);
    sum_work w = {.memory = ws->thread};
    cr_assert_eq(nfi_team_begin(&w.team), NF_OK);
    cr_assert_eq(nfi_sum_begin(&w.sum, &t, LENGTH, threads, &ws->shared), NF_OK);
    nfi_pool_run(&ws->pool, threads, work_on_sum, &w);
    nfi_team_end(&w.team);
    nfi_sum_finish(&w.sum, 0, LENGTH);
    memcpy(result, w.sum.part[0], LENGTH * sizeof *result);
    nf_workspace_free(ws);
}

Test(shards, sums_do_not_depend_on_the_number_of_threads)
{
    const size_t sizes[] = {1, 100, 129, 1000, 5000, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        nf_real one[LENGTH], many[LENGTH];
        sum_with(1, sizes[i], one);
        double direct = 0;
        for (size_t s = 0; s < sizes[i]; s++) {
            nfi_tiling t = nfi_tile_batch(sizes[i], 4);
            size_t tile = 0;
            while (nfi_tile_first(&t, tile + 1) <= s)
                tile++;
            direct += 1.0 / (double)(1 + s * 7919 % 10007) * (tile % 2 ? 1e4 : -1e-3);
        }
        cr_assert_float_eq(one[0], direct, 1e-4 * (1 + (direct < 0 ? -direct : direct)));
        for (size_t threads = 2; threads <= 8; threads++) {
            sum_with(threads, sizes[i], many);
            cr_assert_eq(memcmp(one, many, sizeof one), 0, "n %zu, %zu threads", sizes[i], threads);
        }
    }
}

Test(shards, number_depends_on_tiles_and_length_alone)
{
    cr_assert_eq(nfi_shard_count(1, 8), 1);
    cr_assert_eq(nfi_shard_count(7, 8), 4);
    cr_assert_eq(nfi_shard_count(1000, 8), 64);
    cr_assert_eq(nfi_shard_count(1000, (size_t)1 << 30), 8);
}

typedef struct meeting {
    nfi_team team;
    atomic_size_t count, wrong;
} meeting;

static void meet(void *user, size_t thread, size_t n_threads)
{
    (void)thread;
    enum { ROUNDS = 2000 };
    meeting *m = user;
    for (size_t i = 1; i <= ROUNDS; i++) {
        atomic_fetch_add(&m->count, 1);
        nfi_team_wait(&m->team, n_threads);
        if (atomic_load(&m->count) != i * n_threads)
            atomic_fetch_add(&m->wrong, 1);
        nfi_team_wait(&m->team, n_threads);
    }
}

Test(team, barrier_holds_everyone_back)
{
    meeting m = {.count = 0};
    cr_assert_eq(nfi_team_begin(&m.team), NF_OK);
    on_threads(5, meet, &m);
    cr_assert_eq(m.count, 5 * 2000);
    cr_assert_eq(m.wrong, 0);
    nfi_team_end(&m.team);
}

static nf_status fail_some(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    (void)user, (void)n, (void)ld, (void)memory;
    return first >= 300 ? nf_error(NF_ENOCONV, "tile at %zu", first) : NF_OK;
}

Test(tiles, the_lowest_tiles_error_is_reported)
{
    nf_workspace *ws = nf_workspace_new(4);
    nfi_tiling t = nfi_tile_batch(2000, 4);
    size_t expected = 0;
    while (nfi_tile_first(&t, expected) < 300)
        expected++;
    char text[64];
    snprintf(text, sizeof text, "tile at %zu", nfi_tile_first(&t, expected));
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(nfi_for_tiles(ws, &t, fail_some, NULL), NF_ENOCONV);
        cr_assert_str_eq(nf_error_message(), text);
    }
    nf_workspace_free(ws);
}

/* ---- models ---- */

static nf_flow *some_chain(void)
{
    return nf_chain((nf_flow *[]){nf_planar(3), nf_lu_linear(3, 5), nf_radial(3)}, 3);
}

Test(model, uses_the_callers_arrays_as_they_stand)
{
    nf_flow *flow = some_chain();
    nf_model *own = nf_model_of_flow(nf_flow_ref(flow), &(nf_model_options){.seed = 3});
    size_t n = nf_model_shape(own)->n_params;
    nf_real *theta = nfi_calloc(n, sizeof *theta);
    memcpy(theta, nf_model_theta(own), n * sizeof *theta);
    nf_model *borrowed = nf_model_of_flow(flow, &(nf_model_options){.theta = theta});
    cr_assert_eq(nf_model_theta(borrowed), theta);
    nf_real x[6] = {NF_R(0.3), NF_R(-1.2), NF_R(0.7), NF_R(2.1), NF_R(0.05), NF_R(-0.4)}, a[6], b[6];
    cr_assert_eq(nf_transform(own, NULL, NULL, NF_FORWARD, 2, x, NULL, a, NULL), NF_OK);
    cr_assert_eq(nf_transform(borrowed, NULL, NULL, NF_FORWARD, 2, x, NULL, b, NULL), NF_OK);
    cr_assert_eq(memcmp(a, b, sizeof a), 0);
    for (size_t i = 0; i < n; i++)
        theta[i] += NF_R(0.11);
    cr_assert_eq(nf_model_update(borrowed, NF_EVAL), NF_OK);
    cr_assert_eq(nf_transform(borrowed, NULL, NULL, NF_FORWARD, 2, x, NULL, b, NULL), NF_OK);
    cr_assert_neq(memcmp(a, b, sizeof a), 0);
    nf_model_free(own);
    nf_model_free(borrowed);
    nfi_free(theta);
}

Test(model, draws_are_named_by_their_index)
{
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(3), some_chain()), NULL);
    enum { N = 1000 };
    static nf_real all[N * 3], part[N * 3];
    static double log_all[N], log_part[N];
    nf_noise noise = {.seed = 11, .step = 5};
    cr_assert_eq(nf_sample(q, NULL, &noise, N, NULL, all, log_all), NF_OK);
    const size_t cuts[] = {0, 1, 18, 333, 334, N};
    for (size_t c = 0; c + 1 < sizeof cuts / sizeof *cuts; c++) {
        nf_noise at = noise;
        at.first_sample = cuts[c];
        cr_assert_eq(nf_sample(q, NULL, &at, cuts[c + 1] - cuts[c], NULL, part + 3 * cuts[c], log_part + cuts[c]),
                     NF_OK);
    }
    for (size_t i = 0; i < N * 3; i++)
        cr_assert_float_eq(all[i], part[i], 1e-5);
    /* log q of a draw is its score */
    cr_assert_eq(nf_log_prob(q, NULL, NULL, N, all, NULL, log_part), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(log_all[i], log_part[i], sizeof(nf_real) == 8 ? 1e-9 : 1e-3);
    nf_model_free(q);
}

Test(model, batch_calls_do_not_depend_on_threads_and_do_not_allocate_twice)
{
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(3), some_chain()), &(nf_model_options){.seed = 2});
    enum { N = 777 };
    static nf_real one[N * 3], many[N * 3];
    static double log_one[N], log_many[N];
    nf_noise noise = {.seed = 4};
    nf_workspace *ws = nf_workspace_new(1);
    cr_assert_eq(nf_sample(q, ws, &noise, N, NULL, one, log_one), NF_OK);
    size_t bytes = nf_workspace_bytes(ws);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(nf_sample(q, ws, &noise, N, NULL, one, log_one), NF_OK);
    cr_assert_eq(nf_workspace_bytes(ws), bytes);
    nf_workspace_free(ws);
    for (size_t threads = 2; threads <= 8; threads += 3) {
        ws = nf_workspace_new(threads);
        cr_assert_eq(nf_workspace_threads(ws), threads);
        cr_assert_eq(nf_sample(q, ws, &noise, N, NULL, many, log_many), NF_OK);
        cr_assert_eq(memcmp(one, many, sizeof one), 0);
        cr_assert_eq(memcmp(log_one, log_many, sizeof log_one), 0);
        nf_workspace_free(ws);
    }
    nf_model_free(q);
}

Test(model, bad_arguments_are_named)
{
    nf_model *q = nf_model_of_dist(nf_normal(2), NULL);
    nf_model *net = nf_model_of_net(nf_mlp(2, 2, 1, NULL), NULL);
    nf_noise noise = {.seed = 1};
    nf_real x[4] = {0};
    double log_q[2];
    cr_assert_eq(nf_sample(NULL, NULL, &noise, 2, NULL, x, log_q), NF_EARG);
    cr_assert_eq(nf_sample(q, NULL, NULL, 2, NULL, x, log_q), NF_EARG);
    cr_assert(strstr(nf_error_message(), "noise"));
    cr_assert_eq(nf_sample(q, NULL, &noise, 0, NULL, x, log_q), NF_EARG);
    cr_assert_eq(nf_sample(q, NULL, &noise, 2, NULL, NULL, log_q), NF_EARG);
    cr_assert_eq(nf_sample(net, NULL, &noise, 2, NULL, x, log_q), NF_EARG);
    cr_assert_eq(nf_log_prob(q, NULL, NULL, 2, x, NULL, NULL), NF_EARG);
    cr_assert_eq(nf_evaluate(net, NULL, NULL, 2, x, NULL, x), NF_EARG);
    cr_assert(strstr(nf_error_message(), "ctx"));
    cr_assert_eq(nf_transform(q, NULL, NULL, NF_FORWARD, 2, x, NULL, x, NULL), NF_EARG);
    cr_assert_eq(nf_model_update(NULL, NF_EVAL), NF_EARG);
    cr_assert_eq(nf_model_update(q, (nf_mode)2), NF_EARG);
    cr_assert(strstr(nf_error_message(), "`mode` is 2"));
    cr_assert_eq(nf_model_pull_gradient(q, x, NULL), NF_EARG);
    cr_assert_null(nf_model_of_dist(NULL, NULL));
    cr_assert_null(nf_normal(0));
    cr_assert_null(nf_pushforward(nf_normal(2), nf_planar(3)));
    cr_assert_eq(nf_error_status(), NF_EDIM);
    cr_assert(strstr(nf_error_message(), "2") && strstr(nf_error_message(), "3"));
    cr_assert_null(nf_pushforward(nf_normal(2), NULL));
    nf_real state[1];
    cr_assert_null(nf_model_of_dist(nf_normal(2), &(nf_model_options){.state = state}));
    nf_model_free(q);
    nf_model_free(net);
    nf_model_free(NULL);
    nf_workspace_free(NULL);
}
