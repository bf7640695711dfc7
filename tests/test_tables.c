/* Tables of types that are smaller than the library's, as one that was compiled for an earlier version is, larger, or
   wrong. Every table here stands at the end of a block of its own size, so that sanitizers see a read beyond it. */
#include "object/table.h"
#include "object/tree.h"
#include "expect.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first `abi` bytes of a table, to be freed. */
static void *truncated(const void *whole, size_t abi)
{
    void *table = malloc(abi);
    cr_assert_not_null(table);
    memcpy(table, whole, abi);
    *(size_t *)table = abi;
    return table;
}

static int n_destroyed, n_shifted;
static void destroy(void *self)
{
    cr_assert_eq(*(int *)self, 2385);
    n_destroyed++;
}
static int self = 2385;

/* ---- types with every hook there is ---- */

static nf_status flow_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                            double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++)
        y[i] = d == NF_FORWARD ? x[i] + NF_R(0.75) : x[i] - NF_R(0.75);
    return NF_OK;
}

static nf_status flow_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    memcpy(gx, gy, nf_object_shape(o)->dim_in * p->ld * sizeof *gx);
    return NF_OK;
}

static nf_status flow_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                               void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)x, (void)y, (void)saved;
    memcpy(gy, gx, nf_object_shape(o)->dim_in * p->ld * sizeof *gy);
    return NF_OK;
}

static nf_flow *flow_rebuild(nf_reader *r);
static const nf_flow_type flow_type = {.abi = sizeof flow_type,
                                       .part = {.name = "moved", .destroy = destroy},
                                       .apply = flow_apply,
                                       .vjp = flow_vjp,
                                       .solve_jt = flow_solve_jt,
                                       .rebuild = flow_rebuild};

static nf_flow *new_flow(const void *type)
{
    return nf_flow_new(type, &(nf_shape){.dim_in = 2, .dim_out = 2}, &self, NULL, 0);
}

static nf_flow *flow_rebuild(nf_reader *r)
{
    (void)r;
    return new_flow(&flow_type);
}

static nf_status net_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)x, (void)saved;
    for (size_t i = 0; i < nf_object_shape(o)->dim_out * p->ld; i++)
        y[i] = p->theta[i / p->ld];
    return NF_OK;
}

static nf_status net_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)gx, (void)g;
    return NF_OK;
}

static nf_status net_shift(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    for (size_t i = 0; i < nf_object_shape(o)->dim_out; i++)
        theta[i] += shift[i];
    n_shifted++;
    return NF_OK;
}

static const nf_net_type net_type = {.abi = sizeof net_type,
                                     .part = {.name = "constant", .destroy = destroy},
                                     .apply = net_apply,
                                     .vjp = net_vjp,
                                     .shift_output = net_shift};

static nf_net *new_net(const void *type, size_t in, size_t out)
{
    return nf_net_new(type, &(nf_shape){.dim_in = in, .dim_out = out, .n_params = out}, &self, NULL, 0);
}

static nf_status dist_sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    (void)saved;
    for (size_t i = 0; i < nf_object_shape(o)->dim_out * p->ld; i++)
        x[i] = NF_R(0.5);
    for (size_t s = 0; s < p->ld; s++)
        log_q[s] += 0.25;
    return NF_OK;
}

static nf_status dist_score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)o, (void)p, (void)x, (void)log_p, (void)saved;
    return NF_OK;
}

static const nf_dist_type dist_type = {
    .abi = sizeof dist_type, .part = {.name = "half", .destroy = destroy}, .sample = dist_sample, .score = dist_score};

static nf_dist *new_dist(const void *type)
{
    return nf_dist_new(type, &(nf_shape){.dim_in = 2, .dim_out = 2}, &self, NULL, 0);
}

/* ---- a smaller table lacks hooks, and works ---- */

/* J^-T through a model of the flow. */
static nf_status solve_jt(nf_flow *f)
{
    nf_real tile[4][2 * 16] = {{0}};
    const nf_pass p = {.n = 16, .ld = 16};
    return nf_flow_solve_jt(nf_flow_object(f), NF_FORWARD, &p, tile[0], tile[1], NULL, tile[2], tile[3]);
}

Test(tables, smaller_flow)
{
    const size_t live = alloc_live();
    nf_flow_type *small = truncated(&flow_type, NFI_END_OF(nf_flow_type, vjp));
    n_destroyed = 0;
    nf_flow *whole = new_flow(&flow_type), *f = new_flow(small);
    cr_assert(whole && f, "%s", nf_error_message());
    cr_assert_eq(solve_jt(whole), NF_OK);
    expect(solve_jt(f), NF_EUNSUPPORTED, "moved has no solve_jt");
    nf_model *m = nf_model_of_flow(nf_chain((nf_flow *[]){f, nf_flow_ref(f)}, 2), NULL);
    const nf_real x[2] = {NF_R(0.25), NF_R(-4)};
    nf_real y[2];
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    cr_assert(y[0] == NF_R(1.75) && y[1] == NF_R(-2.5));
    nf_model_free(m);
    cr_assert_eq(n_destroyed, 1);
    nf_flow_free(whole);
    cr_assert_eq(n_destroyed, 2);
    cr_assert_eq(alloc_live(), live);
    free(small);
}

Test(tables, smaller_net)
{
    nf_net_type *small = truncated(&net_type, NFI_END_OF(nf_net_type, vjp));
    for (int k = 0; k < 2; k++) { /* nf_planar starts away from zero: the net's output is shifted there, if it can be */
        n_shifted = 0;
        nf_flow *f =
            nf_coupling(3, (const unsigned char[]){0, 1, 1}, nf_planar(2), new_net(k ? small : &net_type, 1, 5));
        nf_model *m = nf_model_of_flow(f, NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert_eq(n_shifted, k ? 0 : 1);
        cr_assert((nf_model_theta(m)[0] == 0) == (k == 1));
        nf_model_free(m);
    }
    free(small);
}

Test(tables, smaller_dist)
{
    nf_dist_type *small = truncated(&dist_type, NFI_END_OF(nf_dist_type, sample));
    nf_model *whole = nf_model_of_dist(new_dist(&dist_type), NULL), *m = nf_model_of_dist(new_dist(small), NULL);
    cr_assert(whole && m, "%s", nf_error_message());
    nf_real x[2] = {0};
    double log_p[1];
    cr_assert_eq(nf_log_prob(whole, NULL, NULL, 1, x, NULL, log_p), NF_OK);
    expect(nf_log_prob(m, NULL, NULL, 1, x, NULL, log_p), NF_EUNSUPPORTED, "`half` cannot");
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1}, 1, NULL, x, log_p), NF_OK);
    cr_assert(x[1] == NF_R(0.5) && log_p[0] == 0.25);
    nf_model_free(whole);
    nf_model_free(m);
    nf_dist_type *only_score =
        truncated(&(nf_dist_type){.part = {.name = "half"}, .score = dist_score}, NFI_END_OF(nf_dist_type, sample));
    cr_assert_null(new_dist(only_score)); /* its one hook is cut off */
    expect(nf_error_status(), NF_EARG, "nf_dist_new: the type lacks a required hook");
    free(only_score);
    free(small);
}

static nf_status backward(void *user, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)user, (void)first, (void)saved;
    sums->loss += 2.5 * (double)p->n;
    if (g && g->theta)
        g->theta[0] += (nf_real)p->n;
    return NF_OK;
}

Test(tables, smaller_objective)
{
    const nf_objective_type whole = {.abi = sizeof whole,
                                     .name = "flat",
                                     .backward = backward,
                                     .destroy = destroy,
                                     .internal = NFI_HANDS_GRADIENT_ON};
    const size_t ends[] = {sizeof whole, NFI_END_OF(nf_objective_type, destroy),
                           NFI_END_OF(nf_objective_type, backward)};
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(1), NULL);
    for (size_t k = 0; k < 3; k++) {
        nf_objective_type *table = truncated(&whole, ends[k]);
        n_destroyed = 0;
        nf_objective *o = nf_objective_new(table, m, 20, &self);
        cr_assert_not_null(o, "%s", nf_error_message());
        const nf_objective_type *used = nf_objective_table(o);
        cr_assert_eq(used->abi, ends[k]);
        cr_assert_str_eq(used->name, "flat");
        cr_assert_eq(used->internal, k == 0 ? NFI_HANDS_GRADIENT_ON : 0);
        nf_step_report r;
        nf_real g[2] = {NF_R(7), NF_R(7)};
        if (k > 0) { /* what claims to hand its gradient on would have to */
            cr_assert_eq(nf_objective_gradient(o, NULL, 1, 0, &r, g), NF_OK);
            cr_assert(g[0] == 1 && g[1] == 0);
        }
        cr_assert_eq(nf_objective_value(o, NULL, 1, 0, &r), NF_OK);
        cr_assert_float_eq(r.loss, 2.5, 1e-12);
        nf_objective_free(o);
        cr_assert_eq(n_destroyed, k < 2);
        free(table);
    }
    nf_model_free(m);
}

#ifdef NFI_JANSSON
/* A smaller table in nf_types: found by its name, and without the hook that it lacks. */
Test(tables, smaller_in_a_list)
{
    nf_flow_type *small = truncated(&flow_type, NFI_END_OF(nf_flow_type, solve_jt));
    const nf_flow_type wrong = {.abi = sizeof(size_t)};
    static const char json[] = "{\"kind\": \"flow\", \"type\": \"moved\", \"dim_in\": 2}";
    const nf_flow_type *list[] = {&wrong, NULL, small};
    const nf_types types = {.flows = list, .n_flows = 3};
    cr_assert_null(nf_rebuild(json, &types));
    expect(nf_error_status(), NF_EFORMAT, "'moved' has no rebuild hook");
    list[2] = &flow_type;
    nf_object *o = nf_rebuild(json, &types);
    cr_assert_not_null(o, "%s", nf_error_message());
    nf_object_free(o);
    free(small);
}
#endif

/* ---- what is refused ---- */

/* Tables of every kind whose `abi` is changed: what nf_*_new says, and whether `self` is released. */
static void refused(size_t kind, size_t abi, const char *words, bool released)
{
    n_destroyed = 0;
    const size_t live = alloc_live();
    if (kind == 0) {
        nf_net_type t = net_type;
        t.abi = abi;
        cr_assert_null(new_net(&t, 2, 2));
    } else if (kind == 1) {
        nf_flow_type t = flow_type;
        t.abi = abi;
        cr_assert_null(new_flow(&t));
    } else if (kind == 2) {
        nf_dist_type t = dist_type;
        t.abi = abi;
        cr_assert_null(new_dist(&t));
    } else {
        nf_objective_type t = {.abi = abi, .name = "flat", .backward = backward, .destroy = destroy};
        nf_model *m = nf_model_of_dist(nf_normal(1), NULL);
        cr_assert_null(nf_objective_new(&t, m, 20, &self));
        nf_model_free(m);
    }
    expect(nf_error_status(), NF_EARG, words);
    cr_assert_eq(n_destroyed, released, "kind %zu, abi %zu", kind, abi);
    cr_assert_eq(alloc_live(), live);
}

Test(tables, wrong_sizes)
{
    const size_t size[] = {sizeof(nf_net_type), sizeof(nf_flow_type), sizeof(nf_dist_type), sizeof(nf_objective_type)};
    const size_t least[] = {NFI_END_OF(nf_net_type, vjp), NFI_END_OF(nf_flow_type, vjp),
                            NFI_END_OF(nf_dist_type, sample), NFI_END_OF(nf_objective_type, backward)};
    for (size_t kind = 0; kind < 4; kind++) {
        refused(kind, size[kind] + 8, "compiled for a later version", true);
        refused(kind, least[kind] - 8, "which is no table's size", kind < 3); /* an objective's destroy is its last */
        refused(kind, size[kind] - 1, "which is no table's size", true);
        refused(kind, 8, "which is no table's size", false);
        refused(kind, 0, "`type->abi` is 0", false);
        refused(kind, (size_t)&self, "compiled for a later version, or abi is not its size", false);
    }
}

Test(tables, wrong_optimizers)
{
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(1), NULL);
    const nf_objective_type flat = {.abi = sizeof flat, .name = "flat", .backward = backward};
    nf_objective *o = nf_objective_new(&flat, m, 20, NULL);
    const size_t wrong[] = {0, 8, sizeof(nf_optimizer_type) - 8, sizeof(nf_optimizer_type) + 8};
    for (size_t k = 0; k < 4; k++) {
        nf_optimizer_type t = *nf_adam();
        t.abi = wrong[k];
        expect(nf_fit(o, &(nf_fit_options){.steps = 1, .optimizer = &t}, NULL), NF_EARG,
               "nf_fit: `options->optimizer->abi` is ");
    }
    nf_optimizer_type *exact = truncated(nf_adam(), NFI_END_OF(nf_optimizer_type, update));
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 3, .optimizer = exact}, NULL), NF_OK);
    cr_assert_neq(nf_model_theta(m)[0], 0);
    free(exact);
    nf_objective_free(o);
    nf_model_free(m);
}

static void later_hook(void)
{
}

Test(tables, reserved_hooks_are_null)
{
    for (size_t k = 0; k < NF_RESERVED_HOOKS; k++) {
        nf_flow_type t = flow_type;
        t.part.reserved[k] = later_hook;
        n_destroyed = 0;
        cr_assert_null(new_flow(&t));
        expect(nf_error_status(), NF_EARG, "of type moved is not NULL");
        cr_assert_eq(n_destroyed, 1);
    }
}

Test(tables, allocation_failures)
{
    nf_flow_type *small = truncated(&flow_type, NFI_END_OF(nf_flow_type, vjp));
    nf_flow *f = NULL;
    size_t k;
    for (k = 0; !f; k++) {
        const size_t live = alloc_live();
        n_destroyed = 0;
        fail_alloc_once(k);
        f = new_flow(small);
        const bool failed = fail_alloc_off();
        cr_assert_eq(f == NULL, failed);
        cr_assert(f || (nf_error_status() == NF_ENOMEM && alloc_live() == live && n_destroyed == 1));
    }
    cr_assert_geq(k, 3);
    nf_flow_free(f);
    free(small);
}
