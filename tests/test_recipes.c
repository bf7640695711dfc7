/* Recipes: what they are made of, where they start, that the context reaches every layer and that orders change from
   layer to layer, what they refuse, files, and short fits. Gradients and log-dets: tests/conformance. */
#include "push.h"
#include "fail_alloc.h"
#include "temp_files.h"
#include <math.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

typedef nf_flow *recipe_fn(size_t dim, const nf_recipe_options *options);
typedef struct recipe {
    const char *name, *layer; /* the type of its layers */
    recipe_fn *build;
    size_t layers;          /* of the paper */
    size_t between, around; /* flows beside the layers: before each; besides */
    double shrinks;         /* y = shrinks^layers x at the start */
} recipe;
static const recipe recipes[] = {
    {"nf_nice", "coupling", nf_nice, 4, 0, 1, 1},
    {"nf_realnvp", "coupling", nf_realnvp, 10, 0, 0, 1},
    {"nf_made", "autoregressive", nf_made, 1, 0, 0, 1},
    {"nf_maf", "autoregressive", nf_maf, 5, 0, 0, 1},
    {"nf_iaf", "autoregressive", nf_iaf, 8, 0, 0, 0.88079707797788244}, /* 1 / (1 + exp(-2)) */
    {"nf_nsf_coupling", "coupling", nf_nsf_coupling, 10, 2, 2, 1},
    {"nf_nsf_autoregressive", "autoregressive", nf_nsf_autoregressive, 10, 2, 2, 1},
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes, NICE = 0, REALNVP, MADE, MAF, IAF, NSF_C, NSF_AR };

/* Three layers with a hidden layer of nine. */
static nf_recipe_options small(size_t n_ctx)
{
    static const size_t width[] = {9};
    return (nf_recipe_options){.n_ctx = n_ctx, .n_layers = 3, .hidden = width, .n_hidden = 1, .seed = 19};
}

static nf_model *bind(nf_flow *f)
{
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.seed = 23});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* Moves all parameters by N(0, scale^2). */
static void scatter(nf_model *m, double scale)
{
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *noise = malloc((n + 1) * sizeof *noise);
    nf_noise_normal(&(nf_noise){.seed = 29}, n, 1, 1, noise);
    for (size_t i = 0; i < n; i++)
        nf_model_theta(m)[i] += (nf_real)(scale * (double)noise[i]);
    free(noise);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
}

static void normals(uint64_t seed, size_t n, nf_real *x)
{
    nf_noise_normal(&(nf_noise){.seed = seed}, n, 1, 1, x);
}

/* Part i of a chain as a model of its own, scattered. */
static nf_model *part_of(const nf_flow *chain, size_t i)
{
    nf_flow *part = (nf_flow *)nf_child(nf_flow_object((nf_flow *)chain), i);
    nf_model *m = bind(nf_flow_ref(part));
    scatter(m, 0.5);
    return m;
}

static bool is_layer(const recipe *r, const nf_flow *chain, size_t i)
{
    return strcmp(nf_object_name(nf_child(nf_flow_object((nf_flow *)chain), i)), r->layer) == 0;
}

static size_t n_parts(const nf_flow *chain)
{
    return nf_n_children(nf_flow_object((nf_flow *)chain));
}

/* ---- what they are made of ---- */

/* The numbers of a perceptron in -> width x n -> out. */
static size_t perceptron(size_t in, size_t width, size_t n, size_t out)
{
    return in * width + width + (n - 1) * (width * width + width) + width * out + out;
}

static size_t masked_size(size_t dim, size_t per_dim, const nf_masked_options *o)
{
    nf_net *net = nf_masked_net(dim, per_dim, 0, o);
    const size_t n = nf_object_shape(nf_net_object(net))->n_params;
    nf_net_free(net);
    return n;
}

/* With no options the recipes have the papers' layers and nets: by the number of parameters, D = 6. */
Test(recipes, are_the_papers)
{
    enum { D = 6, SPLINE = 3 * 8 - 1, LU = D * D + D };
    const size_t residual = 3 * 256 + 256 + 4 * (256 * 256 + 256) + 256 * 3 * SPLINE + 3 * SPLINE;
    const size_t expected[N_RECIPES] = {
        2 * D + 4 * perceptron(3, 1000, 5, 3),
        10 * perceptron(3, 256, 2, 6),
        masked_size(D, 2, &(nf_masked_options){.hidden = (size_t[]){500}, .n_hidden = 1}),
        5 * masked_size(D, 2, &(nf_masked_options){.hidden = (size_t[]){512, 512}, .n_hidden = 2}),
        8 * masked_size(D, 2, &(nf_masked_options){.hidden = (size_t[]){320, 320}, .n_hidden = 2}),
        10 * residual + 11 * LU,
        10 * masked_size(D, SPLINE, &(nf_masked_options){.hidden = (size_t[]){256}, .n_hidden = 1, .n_blocks = 2}) +
            11 * LU};
    for (size_t i = 0; i < N_RECIPES; i++) {
        const recipe *r = &recipes[i];
        nf_flow *f = r->build(D, NULL);
        cr_assert_not_null(f, "%s: %s", r->name, nf_error_message());
        const nf_shape *s = nf_flow_shape(f);
        cr_assert(s->dim_in == D && s->dim_out == D && s->n_ctx == 0);
        cr_assert_eq(n_parts(f), r->layers * (1 + r->between) + r->around, "%s: %zu parts", r->name, n_parts(f));
        cr_assert_eq(s->n_params, expected[i], "%s: %zu parameters, not %zu", r->name, s->n_params, expected[i]);
        size_t layers = 0;
        for (size_t k = 0; k < n_parts(f); k++)
            layers += is_layer(r, f, k);
        cr_assert_eq(layers, r->layers, "%s", r->name);
        nf_flow_free(f);
    }
}

/* ---- where they start ---- */

/* With last layers of zeros the start is y = x, IAF's y = sigmoid(2)^K x, whatever is permuted on the way; with the
   default it is near that, but weights are not zero. */
Test(recipes, start_near_the_identity)
{
    enum { N = 7, MAX_DIM = 5 };
    static const size_t dims[] = {1, 2, 5};
    nf_real x[N * MAX_DIM], ctx[N * 2], y[N * MAX_DIM];
    double l[N];
    normals(3, N * MAX_DIM, x);
    normals(4, N * 2, ctx);
    for (size_t i = 0; i < N_RECIPES * 3 * 2 * 2; i++) {
        const recipe *r = &recipes[i % N_RECIPES];
        const size_t dim = dims[i / N_RECIPES % 3], n_ctx = i / N_RECIPES / 3 % 2 * 2;
        const bool exact = i / N_RECIPES / 6;
        nf_recipe_options o = small(n_ctx);
        o.last_scale = exact ? -1 : 0;
        nf_model *m = bind(r->build(dim, &o));
        cr_assert_eq(nf_model_shape(m)->n_ctx, n_ctx);
        push(m, NF_FORWARD, N, x, n_ctx ? ctx : NULL, y, l);
        const double factor = pow(r->shrinks, 3);
        double worst = 0;
        for (size_t s = 0; s < N * dim; s++)
            worst = fmax(worst, fabs((double)y[s] - factor * (double)x[s]));
        for (size_t s = 0; s < N; s++)
            worst = fmax(worst, fabs(l[s] - (double)dim * log(factor)));
        cr_assert_lt(worst, exact ? 200 * rounding : 0.2, "%s, %zu dimensions: %g off", r->name, dim, worst);
        cr_assert(exact || (dim == 1 && n_ctx == 0) || worst > 1e-5, "%s, %zu dimensions: nothing to learn from",
                  r->name, dim);
        nf_model_free(m);
    }
}

/* ---- bounded scales ---- */

enum { DRAWS = 20000, WIDE = 10 };

/* Draws of an untrained MADE or MAF whose nets' last layers are not small; how many numbers are not finite, and the
   largest of the others. */
static size_t overflows(recipe_fn *build, const nf_scaled_affine_options *scale, double *largest)
{
    static nf_real x[DRAWS * WIDE];
    const nf_recipe_options o = {.hidden = (size_t[]){64, 64}, .n_hidden = 2, .last_scale = 0.25, .scale = scale};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(WIDE), build(WIDE, &o)), &(nf_model_options){.seed = 1});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 7}, DRAWS, NULL, x, NULL), NF_OK);
    size_t n = 0;
    *largest = 0;
    for (size_t i = 0; i < DRAWS * WIDE; i++)
        if (isfinite((double)x[i]))
            *largest = fmax(*largest, fabs((double)x[i]));
        else
            n++;
    nf_model_free(m);
    return n;
}

/* Draws that overflow with the papers' exp(a) do not by default. */
Test(recipes, untrained_draws_do_not_overflow)
{
    const nf_scaled_affine_options papers = {.scale = NF_SCALE_EXP};
    double largest, largest_of_papers;
    const size_t by_default = overflows(nf_maf, NULL, &largest);
    const size_t of_papers = overflows(nf_maf, &papers, &largest_of_papers);
    cr_assert_eq(by_default, 0);
    cr_assert_lt(largest, 1e15, "%g", largest);
    cr_assert_gt(of_papers, 10);
    cr_assert_eq(overflows(nf_made, NULL, &largest), 0);
    cr_assert_lt(largest, 1e12, "%g", largest);
}

/* Two layers made by hand around a transform. */
static nf_flow *maf_by_hand(const nf_scaled_affine_options *scale)
{
    nf_flow *f[2];
    for (size_t k = 0; k < 2; k++) {
        const nf_masked_options net = {.hidden = (size_t[]){9}, .n_hidden = 1, .last_scale = 0.25};
        f[k] = nf_autoregressive(nf_scaled_affine(1, scale), nf_masked_net(3, 2, 0, &net),
                                 k ? (size_t[]){2, 1, 0} : (size_t[]){0, 1, 2}, NF_INVERSE);
    }
    return nf_chain(f, 2);
}

/* The default is the bounded form, and the option gives the papers' form, both to the bit. */
Test(recipes, scales_are_those_that_are_asked_for)
{
    enum { N = 50, D = 3 };
    const nf_scaled_affine_options papers = {.scale = NF_SCALE_EXP},
                                   bounded = {.scale = NF_SCALE_TANH, .limit = log(1000)};
    nf_recipe_options o = {.n_layers = 2, .hidden = (size_t[]){9}, .n_hidden = 1, .last_scale = 0.25};
    nf_real x[N * D], y[4][N * D];
    double l[4][N];
    normals(35, N * D, x);
    for (size_t k = 0; k < 2; k++) {
        o.scale = k ? &papers : NULL;
        nf_model *recipe = bind(nf_maf(D, &o)), *hand = bind(maf_by_hand(k ? &papers : &bounded));
        push(recipe, NF_FORWARD, N, x, NULL, y[2 * k], l[2 * k]);
        push(hand, NF_FORWARD, N, x, NULL, y[2 * k + 1], l[2 * k + 1]);
        cr_assert_arr_eq(y[2 * k], y[2 * k + 1], sizeof y[0]);
        cr_assert_arr_eq(l[2 * k], l[2 * k + 1], sizeof l[0]);
        nf_model_free(recipe);
        nf_model_free(hand);
    }
    cr_assert_neq(memcmp(y[0], y[2], sizeof y[0]), 0);
}

/* ---- context ---- */

Test(recipes, context_reaches_every_layer)
{
    static const size_t dims[] = {1, 2, 5};
    nf_real x[5], y[2][5];
    const nf_real ctx[2][3] = {{NF_R(0.31), NF_R(-0.74), NF_R(1.13)}, {NF_R(0.31), NF_R(-0.74), NF_R(-0.62)}};
    normals(5, 5, x);
    for (size_t i = 0; i < N_RECIPES * 3; i++) {
        const recipe *r = &recipes[i % N_RECIPES];
        const size_t dim = dims[i / N_RECIPES];
        nf_recipe_options o = small(3);
        o.activation = NF_TANH; /* no unit is off */
        nf_flow *f = r->build(dim, &o);
        cr_assert_not_null(f, "%s: %s", r->name, nf_error_message());
        cr_assert_eq(nf_flow_shape(f)->n_ctx, 3);
        size_t seen = 0;
        for (size_t k = 0; k < n_parts(f); k++) {
            if (!is_layer(r, f, k))
                continue;
            nf_model *m = part_of(f, k);
            for (size_t c = 0; c < 2; c++)
                push(m, NF_FORWARD, 1, x, ctx[c], y[c], NULL);
            double change = 0;
            for (size_t d = 0; d < dim; d++)
                change = fmax(change, fabs((double)(y[0][d] - y[1][d])));
            cr_assert_gt(change, 1e-3, "%s: part %zu", r->name, k);
            nf_model_free(m);
            seen++;
        }
        cr_assert_eq(seen, 3);
        nf_flow_free(f);
    }
}

/* ---- orders and masks ---- */

/* Whether y_i of part k depends on x_j, in the direction that the layer takes in one pass; depends [DIM x DIM]. */
enum { DIM = 6 };
static void dependence(const nf_flow *f, size_t k, nf_direction d, bool depends[DIM][DIM])
{
    nf_model *m = part_of(f, k);
    nf_real x[DIM], y[2][DIM];
    normals(6, DIM, x);
    push(m, d, 1, x, NULL, y[0], NULL);
    for (size_t j = 0; j < DIM; j++) {
        const nf_real kept = x[j];
        x[j] += NF_R(0.37);
        push(m, d, 1, x, NULL, y[1], NULL);
        x[j] = kept;
        for (size_t i = 0; i < DIM; i++)
            depends[i][j] = y[0][i] != y[1][i];
    }
    nf_model_free(m);
}

/* place[i]: how many features y_i depends on, less one. */
static void places(const nf_flow *f, size_t k, nf_direction d, size_t place[DIM])
{
    bool depends[DIM][DIM];
    dependence(f, k, d, depends);
    for (size_t i = 0; i < DIM; i++) {
        cr_assert(depends[i][i]);
        place[i] = 0;
        for (size_t j = 0; j < DIM; j++)
            place[i] += j != i && depends[i][j];
    }
}

static nf_flow *mixed(const recipe *r, nf_mixing mixing, uint64_t seed)
{
    nf_recipe_options o = small(0);
    o.activation = NF_TANH;
    o.mixing = mixing;
    o.seed = seed;
    nf_flow *f = r->build(DIM, &o);
    cr_assert_not_null(f, "%s: %s", r->name, nf_error_message());
    return f;
}

Test(recipes, orders_change_between_layers)
{
    static const size_t which[] = {MADE, MAF, IAF};
    for (size_t w = 0; w < 3; w++) {
        const recipe *r = &recipes[which[w]];
        const nf_direction d = which[w] == IAF ? NF_FORWARD : NF_INVERSE;
        size_t place[3][DIM], other[DIM], differ[3] = {0};
        nf_flow *f = mixed(r, NF_MIX_DEFAULT, 31), *none = mixed(r, NF_MIX_NONE, 31);
        for (size_t k = 0; k < 3; k++) {
            places(f, k, d, place[k]);
            places(none, k, d, other);
            for (size_t i = 0; i < DIM; i++) {
                cr_assert_eq(place[k][i], k % 2 ? DIM - 1 - i : i, "%s, layer %zu, feature %zu", r->name, k, i);
                cr_assert_eq(other[i], i, "%s, layer %zu, feature %zu", r->name, k, i);
            }
        }
        nf_flow_free(f);
        nf_flow_free(none);
        f = mixed(r, NF_MIX_PERMUTE, 31);
        nf_flow *reseeded = mixed(r, NF_MIX_PERMUTE, 32);
        for (size_t k = 0; k < 3; k++)
            places(f, k, d, place[k]);
        places(reseeded, 0, d, other);
        for (size_t i = 0; i < DIM; i++) {
            differ[0] += place[0][i] != place[1][i];
            differ[1] += place[1][i] != place[2][i];
            differ[2] += place[0][i] != other[i];
        }
        cr_assert(differ[0] && differ[1] && differ[2], "%s: the same order again", r->name);
        nf_flow_free(f);
        nf_flow_free(reseeded);
    }
}

/* Features that layer k of a chain of couplings transforms. */
static void transformed(const nf_flow *f, size_t k, bool rows[DIM])
{
    bool depends[DIM][DIM];
    dependence(f, k, NF_FORWARD, depends);
    for (size_t i = 0; i < DIM; i++) {
        size_t others = 0;
        for (size_t j = 0; j < DIM; j++)
            others += j != i && depends[i][j];
        rows[i] = others > 0;
    }
}

Test(recipes, couplings_transform_all_rows_in_turn)
{
    bool rows[3][DIM], other[DIM];
    for (size_t i = 0; i < 2; i++) {
        const size_t first = i == NICE; /* after the scaling */
        nf_flow *f = mixed(&recipes[i], NF_MIX_DEFAULT, 31);
        for (size_t k = 0; k < 3; k++)
            transformed(f, first + k, rows[k]);
        for (size_t d = 0; d < DIM; d++) {
            cr_assert_eq(rows[0][d], i == NICE ? d >= DIM / 2 : d % 2 == 1, "%s", recipes[i].name);
            cr_assert(rows[1][d] == !rows[0][d] && rows[2][d] == rows[0][d], "%s", recipes[i].name);
        }
        nf_flow_free(f);
        size_t differ = 0, usual = 0, seeded = 0;
        bool of_first_seed[DIM];
        for (uint64_t seed = 41; seed < 44; seed++) { /* each: 1 of 20 masks */
            f = mixed(&recipes[i], NF_MIX_PERMUTE, seed);
            transformed(f, first, other);
            transformed(f, first + 1, rows[1]);
            for (size_t d = 0; d < DIM; d++)
                cr_assert_eq(rows[1][d], !other[d]);
            usual += memcmp(other, rows[0], sizeof other) == 0;
            if (seed == 41)
                memcpy(of_first_seed, other, sizeof other);
            seeded += memcmp(other, of_first_seed, sizeof other) != 0;
            transformed(f, first + 2, rows[1]);
            differ += memcmp(other, rows[1], sizeof other) != 0;
            nf_flow_free(f);
        }
        cr_assert(differ && seeded && usual < 3, "%s: masks are not random", recipes[i].name);
    }
}

/* The permutations are not trivial, the last one undoes the others, and each is followed by a linear layer. */
Test(recipes, linear_layers_mix_and_are_undone)
{
    nf_real x[DIM], y[DIM], start[DIM];
    normals(7, DIM, start);
    for (size_t r = 0; r < N_RECIPES; r++) {
        nf_flow *f = mixed(&recipes[r], NF_MIX_LU, 54);
        size_t moved = 0, linear = 0;
        memcpy(x, start, sizeof x);
        for (size_t k = 0; k < n_parts(f); k++) {
            nf_flow *part = (nf_flow *)nf_child(nf_flow_object(f), k);
            const char *name = nf_object_name(nf_flow_object(part));
            if (strcmp(name, "permutation") != 0 && strcmp(name, "lu_linear") != 0)
                continue;
            linear += strcmp(name, "lu_linear") == 0;
            nf_model *m = bind(nf_flow_ref(part));
            push(m, NF_FORWARD, 1, x, NULL, y, NULL);
            moved += memcmp(x, y, sizeof x) != 0;
            memcpy(x, y, sizeof x);
            nf_model_free(m);
        }
        cr_assert_eq(linear, 4, "%s: %zu linear layers", recipes[r].name, linear);
        cr_assert_geq(moved, 3, "%s: only %zu parts permute", recipes[r].name, moved);
        cr_assert_leq(moved, 4, "%s: linear layers start elsewhere", recipes[r].name);
        cr_assert_eq(memcmp(x, start, sizeof x), 0, "%s: permutations are left", recipes[r].name);
        nf_flow_free(f);
    }
}

Test(recipes, may_be_parallel_the_other_way)
{
    for (size_t r = MADE; r < N_RECIPES; r++) {
        if (r == NSF_C)
            continue;
        nf_recipe_options o = small(0);
        o.activation = NF_TANH;
        o.parallel = r == IAF ? NF_PARALLEL_INVERSE : NF_PARALLEL_FORWARD;
        o.mixing = NF_MIX_NONE;
        nf_flow *f = recipes[r].build(DIM, &o);
        cr_assert_not_null(f, "%s", nf_error_message());
        nf_model *m = part_of(f, 1);
        /* in one pass y_2 depends on x_0 through the net alone; step by step also through x_1, with another slope */
        nf_real x[DIM], y[2][DIM], back[2][DIM];
        normals(8, DIM, x);
        const nf_direction d = r == IAF ? NF_INVERSE : NF_FORWARD;
        for (size_t k = 0; k < 2; k++) {
            push(m, d, 1, x, NULL, y[k], NULL);
            push(m, d == NF_FORWARD ? NF_INVERSE : NF_FORWARD, 1, y[k], NULL, back[k], NULL);
            for (size_t i = 0; i < DIM; i++)
                cr_assert_float_eq(back[k][i], x[i], 1e5 * rounding);
            x[1] += NF_R(0.5); /* leaves y_0 alone */
        }
        cr_assert_eq(y[0][0], y[1][0]);
        cr_assert_neq(y[0][DIM - 1], y[1][DIM - 1]);
        nf_model_free(m);
        nf_flow_free(f);
    }
}

/* ---- as posteriors: parameters of their own beside the context ---- */

/* <gz, z> + sum of log q at fixed noise. */
static double posterior_value(nf_model *m, nf_workspace *ws, size_t n, const nf_real *in[3], const nf_real *gz)
{
    nf_real z[16];
    double log_q[8], sum = 0;
    cr_assert_eq(
        nf_posterior_forward(
            m, ws, NF_TRAIN, &(nf_noise){.seed = 71},
            &(nf_posterior_rows){.n = n, .mean = in[0], .log_scale = in[1], .ctx = in[2], .z = z, .log_q = log_q}),
        NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < n * 2; i++)
        sum += (double)gz[i] * (double)z[i];
    for (size_t s = 0; s < n; s++)
        sum += log_q[s];
    return sum;
}

/* The gradient along a random direction of parameters and of context, against central differences. */
Test(recipes, are_posteriors_with_a_context)
{
    enum { N = 5, Z = 2, CTX = 3 };
#ifdef NF_SINGLE
    const double step = 1e-3, bound = 3e-2;
#else
    const double step = 1e-5, bound = 1e-6;
#endif
    nf_real mean[N * Z], log_scale[N * Z], ctx[N * CTX], gz[N * Z], direction[N * CTX], moved[N * CTX];
    double ones[N];
    normals(14, N * Z, mean);
    normals(15, N * Z, log_scale);
    normals(16, N * CTX, ctx);
    normals(17, N * Z, gz);
    normals(18, N * CTX, direction);
    for (size_t s = 0; s < N; s++)
        ones[s] = 1;
    for (size_t i = 0; i < N_RECIPES; i++) {
        nf_recipe_options o = small(CTX);
        o.activation = NF_TANH;
        o.parallel = strcmp(recipes[i].layer, "coupling") == 0 ? NF_PARALLEL_DEFAULT : NF_PARALLEL_FORWARD;
        nf_flow *f = recipes[i].build(Z, &o);
        const size_t n_flow = nf_flow_shape(f)->n_params;
        nf_model *m = nf_model_of_dist(nf_posterior(Z, f), &(nf_model_options){.seed = 73});
        nf_workspace *ws = nf_workspace_new(1);
        cr_assert(m && ws, "%s: %s", recipes[i].name, nf_error_message());
        cr_assert_eq(nf_model_shape(m)->n_ctx, 2 * Z + CTX);
        cr_assert_eq(nf_model_shape(m)->n_params, n_flow);
        scatter(m, 0.1);
        const size_t n_g = nf_model_gradient_size(m);
        nf_real *g = calloc(n_g, sizeof *g), *along = calloc(n_flow, sizeof *along), *theta = nf_model_theta(m);
        nf_real g_ctx[N * CTX];
        normals(19, n_flow, along);
        const nf_real *in[3] = {mean, log_scale, ctx}, *there[3] = {mean, log_scale, moved};
        posterior_value(m, ws, N, in, gz);
        cr_assert_eq(nf_posterior_backward(
                         m, ws, &(nf_posterior_gradients){.n = N, .gz = gz, .g_log_q = ones, .g_ctx = g_ctx, .g = g}),
                     NF_OK, "%s", nf_error_message());
        cr_assert_eq(nf_model_pull_gradient(m, g, g), NF_OK);
        double exact[2] = {0}, value[2][2], size = 0;
        for (size_t p = 0; p < n_flow; p++)
            exact[0] += (double)g[p] * (double)along[p];
        for (size_t c = 0; c < N * CTX; c++) {
            exact[1] += (double)g_ctx[c] * (double)direction[c];
            size = fmax(size, fabs((double)g_ctx[c]));
        }
        cr_assert_gt(size, 1e-3, "%s: the context does not matter", recipes[i].name);
        for (int sign = 0; sign < 2; sign++) {
            const double h = sign ? step : -step;
            for (size_t p = 0; p < n_flow; p++)
                theta[p] += (nf_real)(h * (double)along[p]);
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            value[0][sign] = posterior_value(m, ws, N, in, gz);
            for (size_t p = 0; p < n_flow; p++)
                theta[p] -= (nf_real)(h * (double)along[p]);
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            for (size_t c = 0; c < N * CTX; c++)
                moved[c] = ctx[c] + (nf_real)(h * (double)direction[c]);
            value[1][sign] = posterior_value(m, ws, N, there, gz);
        }
        for (size_t k = 0; k < 2; k++) {
            const double numerical = (value[k][1] - value[k][0]) / (2 * step);
            cr_assert_float_eq(exact[k], numerical, bound * (1 + fabs(numerical)), "%s, %s: %g, but %g by differences",
                               recipes[i].name, k ? "context" : "parameters", exact[k], numerical);
        }
        free(g);
        free(along);
        nf_model_free(m);
        nf_workspace_free(ws);
    }
}

/* ---- units ---- */

/* A layer of swish or LipSwish units has one number more than one of others. */
Test(recipes, take_units_with_a_parameter)
{
    for (size_t i = 0; i < N_RECIPES; i++) {
        size_t n[3];
        for (int k = 0; k < 3; k++) {
            nf_flow *f = recipes[i].build(3, &(nf_recipe_options){.hidden = (size_t[]){5},
                                                                  .n_hidden = 1,
                                                                  .n_blocks = 2,
                                                                  .n_layers = 2,
                                                                  .activation = k == 0   ? NF_TANH
                                                                                : k == 1 ? NF_SWISH
                                                                                         : NF_LIPSWISH});
            cr_assert_not_null(f, "%s", nf_error_message());
            n[k] = nf_flow_shape(f)->n_params;
            nf_flow_free(f);
        }
        cr_assert_eq(n[1], n[0] + 2 * 4, "recipe %zu: %zu and %zu", i, n[0], n[1]); /* two layers of two blocks */
        cr_assert_eq(n[2], n[1]);
    }
}

/* ---- refusals ---- */

static void refused(const recipe *r, nf_recipe_options o, nf_status status, const char *word)
{
    const size_t live = alloc_live();
    cr_assert_null(r->build(3, &o));
    cr_assert_eq(nf_error_status(), status, "%s", nf_error_message());
    cr_assert_eq(strncmp(nf_error_message(), r->name, strlen(r->name)), 0, "%s", nf_error_message());
    cr_assert_not_null(strstr(nf_error_message(), word), "\"%s\" is not in %s", word, nf_error_message());
    cr_assert_eq(alloc_live(), live);
}

/* Two hidden layers have two masks, which are noise of sites of their own. */
Test(recipes, dropout_is_every_nets)
{
    enum { D = 4, LAYERS = 3 };
    const nf_recipe_options none = {.hidden = (size_t[]){8, 8}, .n_hidden = 2, .n_layers = LAYERS};
    nf_recipe_options some = none;
    some.dropout = 0.4;
    for (size_t i = 0; i < N_RECIPES; i++) {
        nf_flow *without = recipes[i].build(D, &none), *with = recipes[i].build(D, &some);
        cr_assert(without && with, "%s", nf_error_message());
        cr_assert_eq(nf_flow_shape(with)->n_sites, nf_flow_shape(without)->n_sites + LAYERS, "%s", recipes[i].name);
        cr_assert_eq(nf_flow_shape(with)->n_params, nf_flow_shape(without)->n_params);
        nf_flow_free(without);
        nf_flow_free(with);
    }
}

Test(recipes, refuse_options_by_name)
{
    const size_t widths[] = {5, 0};
    for (size_t i = 0; i < N_RECIPES; i++) {
        const recipe *r = &recipes[i];
        const bool couplings = i == NICE || i == REALNVP || i == NSF_C, splines = i >= NSF_C;
        cr_assert_null(r->build(0, NULL));
        cr_assert_not_null(strstr(nf_error_message(), "`dim` is 0"), "%s", nf_error_message());
        refused(r, (nf_recipe_options){.n_hidden = 2}, NF_EARG, "hidden");
        refused(r, (nf_recipe_options){.hidden = widths, .n_hidden = 2}, NF_EARG, "hidden[1]");
        refused(r, (nf_recipe_options){.hidden = (size_t[]){4, 4}, .n_hidden = 2, .n_blocks = 1}, NF_EARG, "n_blocks");
        refused(r, (nf_recipe_options){.dropout = 1}, NF_EARG, "dropout");
        refused(r, (nf_recipe_options){.dropout = (double)NAN}, NF_EARG, "dropout");
        refused(r, (nf_recipe_options){.last_scale = (double)INFINITY}, NF_EARG, "last_scale");
        refused(r, (nf_recipe_options){.activation = (nf_activation)17}, NF_EARG, "activation 17");
        refused(r, (nf_recipe_options){.init = (nf_initialisation)23}, NF_EARG, "init");
        refused(r, (nf_recipe_options){.mixing = (nf_mixing)9}, NF_EARG, "`mixing` is 9");
        refused(r, (nf_recipe_options){.n_layers = SIZE_MAX / 2}, NF_EARG, "n_layers");
        if (couplings) {
            refused(r, (nf_recipe_options){.mixing = NF_MIX_REVERSE}, NF_EARG, "NF_MIX_REVERSE");
            refused(r, (nf_recipe_options){.parallel = NF_PARALLEL_FORWARD}, NF_EARG, "parallel");
        } else {
            refused(r, (nf_recipe_options){.parallel = (nf_parallel)5}, NF_EARG, "`parallel` is 5");
        }
        if (splines)
            refused(r, (nf_recipe_options){.spline = &(nf_spline_options){.box = -2}}, NF_EARG, "`spline`: nf_spline");
        else
            refused(r, (nf_recipe_options){.spline = &(nf_spline_options){.box = 2}}, NF_EARG, "`spline` is given");
        if (splines || i == NICE)
            refused(r, (nf_recipe_options){.scale = &(nf_scaled_affine_options){.scale = NF_SCALE_EXP}}, NF_EARG,
                    "`scale` is given");
        else
            refused(r, (nf_recipe_options){.scale = &(nf_scaled_affine_options){.scale = NF_SCALE_TANH, .limit = -1}},
                    NF_EARG, "`scale`: nf_scaled_affine");
    }
}

Test(recipes, survive_failing_allocations)
{
    for (size_t i = 0; i < N_RECIPES; i++)
        for (size_t k = 0;; k++) {
            const size_t before = alloc_live();
            nf_recipe_options o = small(2);
            o.n_layers = 2;
            fail_alloc_after(k);
            nf_flow *f = recipes[i].build(3, &o);
            const bool failed = fail_alloc_off();
            cr_assert(failed ? !f && nf_error_status() == NF_ENOMEM : f != NULL, "%s, allocation %zu: %s",
                      recipes[i].name, k, nf_error_message());
            nf_flow_free(f);
            cr_assert_eq(alloc_live(), before, "%s, allocation %zu", recipes[i].name, k);
            if (!failed)
                break;
        }
}

/* ---- files ---- */

#ifdef NFI_JANSSON
Test(recipes, come_back_from_files)
{
    enum { N = 4, D = 3 };
    const char *folder = temp_folder();
    char path[128];
    nf_real x[N * D], ctx[N * 2], y[2][N * D];
    double l[2][N];
    snprintf(path, sizeof path, "%s/recipe.safetensors", folder);
    normals(9, N * D, x);
    normals(10, N * 2, ctx);
    for (size_t i = 0; i < N_RECIPES; i++) {
        nf_recipe_options o = small(2);
        nf_model *m = bind(recipes[i].build(D, &o));
        scatter(m, 0.2);
        cr_assert_eq(nf_save(m, path), NF_OK, "%s: %s", recipes[i].name, nf_error_message());
        nf_model *again = nf_load(path, NULL);
        cr_assert_not_null(again, "%s: %s", recipes[i].name, nf_error_message());
        for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
            push(m, d, N, x, ctx, y[0], l[0]);
            push(again, d, N, x, ctx, y[1], l[1]);
            cr_assert_eq(memcmp(y[0], y[1], sizeof y[0]), 0, "%s", recipes[i].name);
            cr_assert_eq(memcmp(l[0], l[1], sizeof l[0]), 0, "%s", recipes[i].name);
        }
        nf_model_free(m);
        nf_model_free(again);
    }
    temp_remove(folder);
}
#endif

/* ---- fits ---- */

enum { ROWS = 400, WIDTH = 24 };

static double fitted(const recipe *r, const nf_data *data, nf_dist *base)
{
    const nf_recipe_options o = {.n_ctx = data->n_ctx,
                                 .n_layers = 2,
                                 .hidden = (size_t[]){WIDTH},
                                 .n_hidden = 1,
                                 .activation = NF_TANH,
                                 .seed = 3};
    nf_model *m = nf_model_of_dist(nf_pushforward(base, r->build(data->dim, &o)), &(nf_model_options){.seed = 61});
    cr_assert_not_null(m, "%s: %s", r->name, nf_error_message());
    nf_objective *loss = nf_maximum_likelihood(m, data, &(nf_likelihood_options){.batch = ROWS});
    cr_assert_not_null(loss, "%s", nf_error_message());
    const nf_fit_options fit = {.steps = 1000,
                                .rate = 0.01,
                                .schedule = {.kind = NF_COSINE, .from = 1, .to = 0, .steps = 1000},
                                .clip_norm = 10,
                                .seed = 5,
                                .threads = 1};
    cr_assert_eq(nf_fit(loss, &fit, NULL), NF_OK, "%s: %s", r->name, nf_error_message());
    nf_step_report report;
    cr_assert_eq(nf_objective_value(loss, NULL, 1, 0, &report), NF_OK);
    nf_objective_free(loss);
    nf_model_free(m);
    return report.loss;
}

/* A banana, x_1 = x_0^2 + 0.3 e with x_0, e normal: no uncorrelated normal has a mean -log p below
   log(2 pi e) + log(sd(x_0) sd(x_1)), about 3.2; the truth's is log(2 pi e) + log 0.3 = 1.63. */
Test(recipes, learn_a_density, .disabled = NFLOW_THIN)
{
    nf_real e[2 * ROWS], x[2 * ROWS];
    normals(11, 2 * ROWS, e);
    double sum[2] = {0}, squares[2] = {0};
    for (size_t s = 0; s < ROWS; s++) {
        x[2 * s] = e[2 * s];
        x[2 * s + 1] = e[2 * s] * e[2 * s] + NF_R(0.3) * e[2 * s + 1];
        for (size_t i = 0; i < 2; i++) {
            sum[i] += (double)x[2 * s + i] / ROWS;
            squares[i] += (double)(x[2 * s + i] * x[2 * s + i]) / ROWS;
        }
    }
    const double normal =
        log(2 * M_PI * M_E) + 0.5 * log(squares[0] - sum[0] * sum[0]) + 0.5 * log(squares[1] - sum[1] * sum[1]);
    cr_assert_gt(normal, 3);
    for (size_t i = 0; i < N_RECIPES; i++) {
        const double loss = fitted(&recipes[i], &(nf_data){.n = ROWS, .dim = 2, .x = x}, nf_diagonal_normal(2));
        cr_assert_lt(loss, normal - 1, "%s: %g, but a normal has %g", recipes[i].name, loss, normal);
    }
}

/* One feature given two: x = sin(2 c_0) + c_1 + 0.2 e. What the context says is log(sd(x) / 0.2) nats, about 2. */
Test(recipes, learn_from_the_context, .disabled = NFLOW_THIN)
{
    nf_real e[ROWS], x[ROWS], ctx[2 * ROWS];
    normals(12, ROWS, e);
    normals(13, 2 * ROWS, ctx);
    double sum = 0, squares = 0;
    for (size_t s = 0; s < ROWS; s++) {
        x[s] = NF_R(sin(2 * (double)ctx[2 * s])) + ctx[2 * s + 1] + NF_R(0.2) * e[s];
        sum += (double)x[s] / ROWS;
        squares += (double)(x[s] * x[s]) / ROWS;
    }
    const double normal = 0.5 * log(2 * M_PI * M_E) + 0.5 * log(squares - sum * sum);
    for (size_t i = 0; i < N_RECIPES; i++) {
        const nf_data data = {.n = ROWS, .dim = 1, .x = x, .n_ctx = 2, .ctx = ctx};
        const double loss = fitted(&recipes[i], &data, nf_diagonal_normal(1));
        cr_assert_lt(loss, normal - 0.8, "%s: %g, but a normal has %g", recipes[i].name, loss, normal);
    }
}

/* The first layer of a coupling's net, W [8 x 1] and b [8]: He's biases are 0, PyTorch's are spread over [-1, 1]. */
Test(recipes, nets_start_as_asked)
{
    for (int torch = 0; torch < 2; torch++) {
        nf_recipe_options o = {.n_layers = 1, .hidden = (size_t[]){8}, .n_hidden = 1};
        o.init = torch ? NF_INIT_TORCH : NF_INIT_AUTO;
        nf_model *m = nf_model_of_flow(nf_realnvp(2, &o), NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        double widest = 0;
        for (size_t i = 8; i < 16; i++) {
            const double b = nf_model_theta(m)[i];
            cr_assert(torch ? b != 0 && fabs(b) <= 1 : b == 0, "%g", b);
            widest = fmax(widest, fabs(b));
        }
        cr_assert(!torch || widest > 0.3, "%g", widest);
        nf_model_free(m);
    }
}
