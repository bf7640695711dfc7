/* Model files: what is saved comes back bit for bit, and nothing that is damaged or hostile comes back at all. */
#include "damage.h"
#include "support/json_memory.h"
#include "temp_files.h"
#include <nflow/nflow.h>
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

static char folder[64], path[128], other[128];

static void setup(void)
{
    strcpy(folder, temp_folder());
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    snprintf(other, sizeof other, "%s/other.safetensors", folder);
}

TestSuite(model_file, .init = setup, .fini = temp_teardown);

/* ---- a user's types ---- */

/* y = x + sum of (parameters, state, numbers): a translation with every sort of field and two tensors. */
typedef struct wavy {
    uint64_t big;
    double number[6];
    size_t list[3];
} wavy;

static nf_status wavy_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                            double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    nf_real shift = (nf_real)((const wavy *)nf_self(o))->number[0];
    for (size_t i = 0; i < 7; i++)
        shift += p->theta[i] * (nf_real)(i + 1);
    for (size_t i = 0; i < 3; i++)
        shift += p->state[i] * (nf_real)(i + 1);
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++)
        y[i] = d == NF_FORWARD ? x[i] + shift : x[i] - shift;
    return NF_OK;
}

static nf_status wavy_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)d, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)g_log_det, (void)gx, (void)g;
    return nf_error(NF_EUNSUPPORTED, "wavy has no gradients");
}

static nf_status wavy_describe(const nf_object *o, nf_writer *w)
{
    const wavy *q = nf_self(o);
    static const char *const name[] = {"tenth", "tiny", "minus_zero", "nan", "inf", "minus_inf"};
    nf_status status = nf_write_integer(w, "big", q->big);
    for (size_t i = 0; i < 6 && status == NF_OK; i++)
        status = nf_write_number(w, name[i], q->number[i]);
    if (status == NF_OK)
        status = nf_write_numbers(w, "numbers", 6, q->number);
    return status == NF_OK ? nf_write_integers(w, "list", 3, q->list) : status;
}

static void wavy_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    (void)o;
    each(user, "bias", 6, 0, NULL); /* out of order on purpose */
    each(user, "matrix", 0, 2, (size_t[]){2, 3});
}

static nf_flow *wavy_rebuild(nf_reader *r);
static const nf_flow_type wavy_type = {
    .part = {.name = "wavy", .describe = wavy_describe, .slices = wavy_slices, .destroy = free},
    .abi = sizeof(nf_flow_type),
    .apply = wavy_apply,
    .vjp = wavy_vjp,
    .rebuild = wavy_rebuild,
};
static const wavy wavy_fields = {.big = UINT64_MAX - 4,
                                 .number = {0.1, 4.9406564584124654e-324, -0.0, NAN, INFINITY, -INFINITY},
                                 .list = {17, 0, SIZE_MAX}};

static nf_flow *wavy_new(const nf_flow_type *type, size_t dim, const wavy *fields)
{
    wavy *q = malloc(sizeof *q);
    *q = *fields;
    return nf_flow_new(type, &(nf_shape){.dim_in = dim, .dim_out = dim, .n_params = 7, .n_state = 3}, q, NULL, 0);
}

static nf_flow *wavy_rebuild(nf_reader *r)
{
    wavy q;
    uint64_t unused;
    double number, numbers[7];
    size_t list[4];
    if (nf_read_integer(r, "big", &q.big) != NF_OK || nf_read_number(r, "tenth", &q.number[0]) != NF_OK ||
        nf_read_number(r, "tiny", &q.number[1]) != NF_OK || nf_read_number(r, "minus_zero", &q.number[2]) != NF_OK ||
        nf_read_number(r, "nan", &q.number[3]) != NF_OK || nf_read_number(r, "inf", &q.number[4]) != NF_OK ||
        nf_read_number(r, "minus_inf", &q.number[5]) != NF_OK || nf_read_integers(r, "list", 3, q.list) != NF_OK)
        return NULL;
    if (nf_read_numbers(r, "numbers", 6, numbers) != NF_OK)
        return NULL;
    for (size_t i = 0; i < 6; i++) /* in a damaged file they may differ */
        if (isnan(q.number[i]) ? !isnan(numbers[i]) : memcmp(&q.number[i], &numbers[i], sizeof *numbers) != 0) {
            nf_error(NF_EFORMAT, "number %zu is another in the array", i);
            return NULL;
        }
    cr_assert_eq(nf_read_length(r, "list"), 3);
    cr_assert_eq(nf_read_length(r, "numbers"), 6);
    cr_assert_eq(nf_read_numbers(r, "numbers", 7, numbers), NF_EFORMAT);
    cr_assert_eq(nf_read_numbers(r, "tenth", 1, numbers), NF_EFORMAT);
    cr_assert_eq(nf_read_numbers(r, "absent", 1, numbers), NF_EFORMAT);
    cr_assert_eq(nf_read_integers(r, "numbers", 6, (size_t[6]){0}), NF_EFORMAT);
    cr_assert_eq(nf_read_length(r, "absent"), 0);
    cr_assert_eq(nf_read_integer(r, "absent", &unused), NF_EFORMAT);
    cr_assert_eq(nf_read_integer(r, "tenth", &unused), NF_EFORMAT);
    cr_assert_eq(nf_read_integer(r, "nan", &unused), NF_EFORMAT);
    cr_assert_eq(nf_read_number(r, "list", &number), NF_EFORMAT);
    cr_assert_eq(nf_read_integers(r, "list", 4, list), NF_EFORMAT);
    cr_assert_eq(nf_read_integers(r, "list", 2, list), NF_EFORMAT);
    cr_assert_eq(nf_read_integers(r, "big", 1, list), NF_EFORMAT);
    cr_assert_eq(nf_read_integer(r, NULL, &unused), NF_EARG);
    cr_assert_null(nf_read_child(r, nf_read_n_children(r)));
    return wavy_new(&wavy_type, nf_read_dim_in(r), &q);
}

/* y = x^2, and a density that is 1 everywhere: a net and a distribution of the user's. */
static nf_status square_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)saved;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++)
        y[i] = x[i] * x[i];
    return NF_OK;
}

static nf_status square_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                            const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)gx, (void)g;
    return nf_error(NF_EUNSUPPORTED, "square has no gradients");
}

static nf_net *square_rebuild(nf_reader *r);
static const nf_net_type square_type = {.part = {.name = "square"},
                                        .abi = sizeof(nf_net_type),
                                        .apply = square_apply,
                                        .vjp = square_vjp,
                                        .rebuild = square_rebuild};

static nf_net *square_new(size_t dim)
{
    return nf_net_new(&square_type, &(nf_shape){.dim_in = dim, .dim_out = dim}, NULL, NULL, 0);
}

static nf_net *square_rebuild(nf_reader *r)
{
    return square_new(nf_read_dim_out(r));
}

static nf_status flat_score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)o, (void)p, (void)x, (void)log_p, (void)saved;
    return NF_OK;
}

static nf_dist *flat_rebuild(nf_reader *r);
static const nf_dist_type flat_type = {
    .part = {.name = "flat"}, .abi = sizeof(nf_dist_type), .score = flat_score, .rebuild = flat_rebuild};

static nf_dist *flat_new(size_t dim)
{
    return nf_dist_new(&flat_type, &(nf_shape){.dim_out = dim}, NULL, NULL, 0);
}

static nf_dist *flat_rebuild(nf_reader *r)
{
    return flat_new(nf_read_dim_out(r));
}

static const nf_types types = {.flows = (const nf_flow_type *const[]){NULL, &wavy_type},
                               .n_flows = 2,
                               .nets = (const nf_net_type *const[]){&square_type},
                               .n_nets = 1,
                               .dists = (const nf_dist_type *const[]){&flat_type},
                               .n_dists = 1};

/* ---- one model of every sort ---- */

static nf_net *small_mlp(size_t in, size_t out, size_t n_ctx, nf_activation activation)
{
    return nf_mlp(
        in, out, n_ctx,
        &(nf_mlp_options){.hidden = (size_t[]){5, 3}, .n_hidden = 2, .activation = activation, .last_scale = 0.37});
}

/* Nets that no other model has. */
static nf_net *net(size_t k)
{
    const nf_mlp_options o = {.hidden = (size_t[]){5, 3}, .n_hidden = 2, .init = NF_INIT_LECUN, .dropout = 0.1};
    switch (k) {
    case 0:
        return nf_gated_mlp(4, 2, 3, &o);
    case 1:
        return nf_maxout_mlp(4, 2, 3,
                             &(nf_maxout_options){.hidden = (size_t[]){5, 3},
                                                  .n_hidden = 2,
                                                  .window = 3,
                                                  .output = NF_TANH,
                                                  .init = NF_INIT_TORCH,
                                                  .last_scale = -1,
                                                  .dropout = 0.25});
    case 2:
        return nf_residual_mlp(4, 2, 3,
                               &(nf_residual_mlp_options){.width = 5,
                                                          .n_blocks = 3,
                                                          .activation = NF_ELU,
                                                          .init = NF_INIT_GLOROT,
                                                          .block_scale = 0.07,
                                                          .last_scale = 0.3,
                                                          .dropout = 0.5});
    case 3:
        return nf_residual_mlp(4, 2, 0, &(nf_residual_mlp_options){.width = 5, .block_scale = -1, .last_scale = -1});
    case 4:
        return nf_mlp(0, 2, 0, &o);
    case 5:
        return nf_masked_net(4, 3, 0,
                             &(nf_masked_options){.hidden = (size_t[]){9, 7},
                                                  .n_hidden = 2,
                                                  .activation = NF_TANH,
                                                  .init = NF_INIT_LECUN,
                                                  .last_scale = -1,
                                                  .dropout = 0.3});
    case 6:
        return nf_conv_net((nf_image){1, 2, 4}, 1, 3,
                           &(nf_conv_options){.hidden = (size_t[]){5, 3},
                                              .n_hidden = 2,
                                              .kernel = (size_t[]){5, 1, 7},
                                              .n_kernel = 3,
                                              .activation = NF_LIPSWISH,
                                              .norm = NF_CONV_ACTNORM,
                                              .init = NF_INIT_TORCH,
                                              .last_scale = NF_ZERO,
                                              .in_pixels = NF_ODD_PIXELS,
                                              .out_pixels = NF_EVEN_PIXELS});
    case 7:
        return nf_conv_net((nf_image){2, 2, 2}, 2, 3,
                           &(nf_conv_options){.hidden = (size_t[]){5},
                                              .n_hidden = 1,
                                              .n_blocks = 2,
                                              .activation = NF_TANH,
                                              .norm = NF_CONV_WEIGHT_NORM,
                                              .last_scale = 0.3,
                                              .learnt_scale = true});
    case 8:
        return nf_conv_net((nf_image){1, 3, 2}, 2, 0,
                           &(nf_conv_options){.hidden = (size_t[]){5, 3}, .n_hidden = 2, .gated = true});
    default:
        return nf_masked_net(
            4, 2, 3,
            &(nf_masked_options){
                .hidden = (size_t[]){9}, .n_hidden = 1, .n_blocks = 2, .last_scale = 0.3, .dropout = 0.1});
    }
}

static nf_flow *every_layer(size_t dim)
{
    static const size_t order[] = {2, 0, 3, 1};
    return nf_chain((nf_flow *[]){nf_planar(dim), nf_radial(dim), nf_lu_linear(dim, UINT64_MAX - 6),
                                  nf_permutation(dim, order), nf_invert(nf_planar(dim)),
                                  nf_chain((nf_flow *[]){nf_affine(dim)}, 1)},
                    6);
}

static nf_dist *amortised_posterior(size_t dim, size_t n_ctx)
{
    nf_flow *amortised = nf_amortized(nf_planar(dim), small_mlp(n_ctx, 2 * dim + 1, 0, NF_TANH));
    return nf_posterior(dim, nf_chain((nf_flow *[]){nf_on_context(amortised, n_ctx + 2, 1), nf_radial(dim)}, 2));
}

enum { FIRST_NET = 13, N_MODELS = 23 };

static nf_model *make(size_t k)
{
    static const nf_model_options options = {.seed = 2385};
    switch (k) {
    case 0:
        return nf_model_of_dist(nf_normal(3), &options);
    case 1:
        return nf_model_of_dist(nf_diagonal_normal(3), &options);
    case 2:
        return nf_model_of_dist(nf_pushforward(nf_normal(4), every_layer(4)), &options);
    case 3:
        return nf_model_of_dist(nf_conditional_normal(3, small_mlp(5, 6, 0, NF_ELU)), &options);
    case 4:
        return nf_model_of_dist(amortised_posterior(3, 4), &options);
    case 5:
        return nf_model_of_dist(nf_diagonal_posterior(3), &options);
    case 6:
        return nf_model_of_flow(nf_invert(every_layer(4)), &options);
    case 7:
        return nf_model_of_flow(nf_amortized_by_context(nf_chain((nf_flow *[]){nf_planar(3), nf_radial(3)}, 2)),
                                &options);
    case 8:
        return nf_model_of_net(small_mlp(4, 2, 3, NF_LEAKY_RELU), &options);
    case 9:
        return nf_model_of_vae(nf_vae_new(small_mlp(6, 12, 0, NF_RELU), amortised_posterior(3, 4),
                                          small_mlp(3, 12, 0, NF_SOFTPLUS), NF_GAUSSIAN),
                               &options);
    case 10:
        return nf_model_of_dist(
            nf_pushforward(flat_new(2),
                           nf_chain((nf_flow *[]){wavy_new(&wavy_type, 2, &wavy_fields), nf_planar(2)}, 2)),
            &options);
    case 11:
        return nf_model_of_net(square_new(3), &options);
    case 12:
        return nf_model_of_flow(wavy_new(&wavy_type, 3, &wavy_fields), &options);
    default:
        return nf_model_of_net(net(k - FIRST_NET), &options);
    }
}

/* Parameters and state without pattern, close to what init gave. */
static void perturb(nf_model *m)
{
    const nf_shape *s = nf_model_shape(m);
    nf_real *theta = nf_model_theta(m), *state = nf_model_state(m);
    for (size_t i = 0; i < s->n_params; i++)
        theta[i] += NF_R(0.05) * (nf_real)sin(1.7 + 2.385 * (double)i * (double)i);
    for (size_t i = 0; i < s->n_state; i++)
        state[i] += (nf_real)cos(0.3 + 3.77 * (double)i);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK, "%s", nf_error_message());
}

static nf_model *make_perturbed(size_t k)
{
    nf_model *m = make(k);
    cr_assert_not_null(m, "model %zu: %s", k, nf_error_message());
    perturb(m);
    return m;
}

static void save(const nf_model *m, const char *to)
{
    cr_assert_eq(nf_save(m, to), NF_OK, "%s", nf_error_message());
}

/* Whatever the model can do on 37 rows, [37 x 20] per output; returns the numbers written. */
enum { ROWS = 37 };
static size_t outputs(const nf_model *m, size_t k, double *out)
{
    const nf_shape *s = nf_model_shape(m);
    nf_real x[ROWS * 12], ctx[ROWS * 12], y[ROWS * 12];
    double log_q[ROWS];
    nf_noise noise = {.seed = 99};
    nf_noise_normal(&noise, 12, ROWS, ROWS, x);
    noise.step = 1;
    nf_noise_normal(&noise, 12, ROWS, ROWS, ctx);
    const nf_real *c = s->n_ctx ? ctx : NULL;
    nf_status status = NF_OK;
    size_t n = 0, width = s->dim_out;
    memset(log_q, 0, sizeof log_q);
    if (k <= 5)
        status = nf_sample(m, NULL, &noise, ROWS, c, y, log_q);
    else if (k == 6 || k == 7 || k == 12)
        status = nf_transform(m, NULL, NULL, k == 6 ? NF_INVERSE : NF_FORWARD, ROWS, x, c, y, log_q);
    else if (k == 8 || k == 11 || k >= FIRST_NET)
        status = nf_evaluate(m, NULL, NULL, ROWS, x, c, y);
    else if (k == 9)
        status = nf_vae_encode(m, NULL, &noise, ROWS, x, y, log_q);
    else {
        status = nf_log_prob(m, NULL, NULL, ROWS, x, c, log_q);
        width = 0;
    }
    cr_assert_eq(status, NF_OK, "model %zu: %s", k, nf_error_message());
    for (size_t i = 0; i < ROWS; i++)
        out[n++] = log_q[i];
    for (size_t i = 0; i < ROWS * width; i++)
        out[n++] = (double)y[i];
    for (size_t i = 0; i < n; i++)
        cr_assert(isfinite(out[i]), "model %zu, output %zu", k, i);
    return n;
}

/* ---- files taken apart and put together ---- */

/* A file of `header` and data; the length is the header's, or `length` if that is not 0. */
static void compose(const char *to, uint64_t length, const char *header, const void *data, size_t n_data)
{
    size_t n_header = strlen(header);
    unsigned char *bytes = malloc(8 + n_header + n_data + 1);
    length = length ? length : n_header;
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, n_header);
    if (n_data)
        memcpy(bytes + 8 + n_header, data, n_data);
    file_write(to, bytes, 8 + n_header + n_data);
    free(bytes);
}

/* The header of a file as text; *data is where its data begin in *bytes, which the caller frees. */
static char *take_apart(const char *from, unsigned char **bytes, unsigned char **data, size_t *n_data)
{
    size_t n, length = 0;
    *bytes = file_read(from, &n);
    for (size_t i = 8; i-- > 0;)
        length = length << 8 | (*bytes)[i];
    cr_assert_leq(length + 8, n);
    char *header = calloc(length + 1, 1);
    memcpy(header, *bytes + 8, length);
    *data = *bytes + 8 + length;
    *n_data = n - 8 - length;
    return header;
}

static void refused(const char *file, const char *trouble)
{
    size_t live = alloc_live();
    nf_model *m = nf_load(file, &types);
    cr_assert_null(m);
    cr_assert_eq(nf_error_status(), NF_EFORMAT, "status %d: %s", (int)nf_error_status(), nf_error_message());
    cr_assert(strstr(nf_error_message(), file) && strstr(nf_error_message(), trouble), "expected '%s', message: %s",
              trouble, nf_error_message());
    cr_assert_eq(alloc_live(), live);
}

/* The file at `path` with the first `from` in its header replaced by `to`, written to `other`. */
static void replace(const char *from, const char *to)
{
    unsigned char *bytes, *data;
    size_t n_data;
    char *header = take_apart(path, &bytes, &data, &n_data), *at = strstr(header, from);
    cr_assert_not_null(at, "%s not in %s", from, header);
    char *changed = calloc(strlen(header) + strlen(to) + 1, 1);
    sprintf(changed, "%.*s%s%s", (int)(at - header), header, to, at + strlen(from));
    compose(other, 0, changed, data, n_data);
    free(changed);
    free(header);
    free(bytes);
}

/* ---- what is saved comes back ---- */

static void check_round_trip(size_t k)
{
    nf_model *m = make_perturbed(k);
    save(m, path);
    nf_model *back = nf_load(path, &types);
    cr_assert_not_null(back, "model %zu: %s", k, nf_error_message());
    const nf_shape *s = nf_model_shape(m), *t = nf_model_shape(back);
    cr_assert(s->dim_in == t->dim_in && s->dim_out == t->dim_out && s->n_ctx == t->n_ctx &&
              s->n_params == t->n_params && s->n_state == t->n_state && s->n_prep == t->n_prep &&
              s->n_sites == t->n_sites && s->flags == t->flags);
    cr_assert_arr_eq(nf_model_theta(m), nf_model_theta(back), s->n_params * sizeof(nf_real));
    cr_assert_arr_eq(nf_model_state(m), nf_model_state(back), s->n_state * sizeof(nf_real));
    static double a[ROWS * 13], b[ROWS * 13];
    size_t n = outputs(m, k, a);
    cr_assert_eq(outputs(back, k, b), n);
    cr_assert_arr_eq(a, b, n * sizeof *a, "model %zu", k);
    save(back, other); /* the description of the rebuilt model is the same to the byte */
    size_t n_first, n_second;
    unsigned char *first = file_read(path, &n_first), *second = file_read(other, &n_second);
    cr_assert(n_first == n_second && memcmp(first, second, n_first) == 0, "model %zu", k);
    free(first);
    free(second);
    nf_model_free(m);
    nf_model_free(back);
}

Test(model_file, round_trip)
{
    for (size_t k = 0; k < N_MODELS; k++)
        check_round_trip(k);
    cr_assert_eq(temp_remove(folder), 2); /* no temporary file stays */
}

Test(model_file, fields_survive)
{
    nf_model *m = make_perturbed(12);
    nf_error(NF_ESTOP, "as it was");
    save(m, path);
    nf_model *back = nf_load(path, &types);
    cr_assert_not_null(back, "%s", nf_error_message());
    cr_assert(nf_error_status() == NF_ESTOP && strcmp(nf_error_message(), "as it was") == 0); /* success leaves it */
    const wavy *q = nf_self(nf_model_object(back));
    cr_assert_eq(q->big, wavy_fields.big);
    cr_assert(q->number[0] == 0.1 && q->number[1] == wavy_fields.number[1] && q->number[1] > 0);
    cr_assert(q->number[2] == 0 && signbit(q->number[2]) && isnan(q->number[3]));
    cr_assert(q->number[4] == INFINITY && q->number[5] == -INFINITY);
    cr_assert_arr_eq(q->list, wavy_fields.list, sizeof q->list);
    nf_model_free(m);
    nf_model_free(back);
}

Test(model_file, numbers_that_are_not_finite_are_the_users)
{
    nf_model *m = make(1);
    nf_real *theta = nf_model_theta(m);
    theta[0] = (nf_real)NAN;
    theta[1] = (nf_real)-INFINITY;
    theta[2] = NF_R(-0.0);
    save(m, path);
    nf_model *back = nf_load(path, NULL);
    cr_assert_not_null(back, "%s", nf_error_message());
    cr_assert_arr_eq(theta, nf_model_theta(back), 6 * sizeof(nf_real));
    nf_model_free(m);
    nf_model_free(back);
}

/* ---- notes ---- */

static void set_notes(nf_model *m, size_t n, const nf_note *notes)
{
    cr_assert_eq(nf_model_set_notes(m, n, notes), NF_OK, "%s", nf_error_message());
}

static void has(const nf_model *m, const char *key, const char *text)
{
    const char *is = nf_model_note(m, key);
    cr_assert(text ? is && strcmp(is, text) == 0 : !is, "%s: '%s', expected '%s'", key, is ? is : "(none)",
              text ? text : "(none)");
}

/* Notes come back from a file and stay when it is saved again; keys may be words of the format. */
Test(model_file, notes)
{
    nf_model *m = make_perturbed(2);
    set_notes(m, 5,
              (nf_note[]){{"scale", "7.45 12.7"},
                          {"format", "mine"},
                          {"note.", ""},
                          {"architecture", "{\"kind\":\n\\\"\x01\"}"},
                          {"\xc3\xa9\xf0\x9f\x98\x80", "\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe0\xa0\x80"}});
    set_notes(m, 4, (nf_note[]){{"scale", "gone"}, {"columns", "AT V"}, {"scale", NULL}, {"absent", NULL}});
    save(m, path);
    nf_model *back = nf_load(path, &types);
    cr_assert_not_null(back, "%s", nf_error_message());
    nf_model_free(m);
    has(back, "scale", NULL);
    has(back, "absent", NULL);
    has(back, "columns", "AT V");
    has(back, "format", "mine");
    has(back, "note.", "");
    has(back, "architecture", "{\"kind\":\n\\\"\x01\"}");
    has(back, "\xc3\xa9\xf0\x9f\x98\x80", "\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe0\xa0\x80");
    size_t n, n_first, n_second;
    const nf_note *all = nf_model_notes(back, &n);
    cr_assert_eq(n, 5);
    for (size_t i = 1; i < n; i++)
        cr_assert_lt(strcmp(all[i - 1].key, all[i].key), 0);
    save(back, other);
    nf_model_free(back);
    unsigned char *first = file_read(path, &n_first), *second = file_read(other, &n_second);
    cr_assert(n_first == n_second && memcmp(first, second, n_first) == 0);
    free(first);
    free(second);
}

/* Every limit, once at it and once beyond; what is refused changes nothing. */
Test(model_file, notes_have_limits)
{
    static char text[NF_NOTE_TEXT + 2], keys[NF_NOTES + 1][8];
    static nf_note many[NF_NOTES + 1];
    memset(text, 'x', NF_NOTE_TEXT + 1);
    nf_model *m = make(1);
    set_notes(m, 1, (nf_note[]){{"kept", "yes"}});
    const char *long_key = text + sizeof text - 1 - NF_NOTE_KEY;
    const struct {
        nf_note note;
        const char *trouble;
    } bad[] = {{{NULL, "a"}, "no key"},
               {{"", "a"}, "no key"},
               {{long_key - 1, "a"}, "more than 128 bytes"},
               {{"big", text}, "'big' has more than 1048576 bytes"},
               {{"\xff", "a"}, "UTF-8"},
               {{"a", "\xc0\x80"}, "UTF-8"},
               {{"a", "\xed\xa0\x80"}, "UTF-8"},
               {{"a", "\xf4\x90\x80\x80"}, "UTF-8"},
               {{"a", "\xf5\x80\x80\x80"}, "UTF-8"},
               {{"a", "\xe0\x9f\xbf"}, "UTF-8"},
               {{"a", "\xf0\x8f\xbf\xbf"}, "UTF-8"},
               {{"a", "\xe2\x82"}, "UTF-8"},
               {{"a", "\xf0\x9f\x98"}, "UTF-8"},
               {{"a", "\x80"}, "UTF-8"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const nf_note two[] = {{"kept", "no"}, bad[i].note};
        cr_assert_eq(nf_model_set_notes(m, 2, two), NF_EARG, "note %zu", i);
        cr_assert(strstr(nf_error_message(), bad[i].trouble), "%s", nf_error_message());
        has(m, "kept", "yes");
    }
    set_notes(m, 2, (nf_note[]){{long_key, "a"}, {"big", text + 1}});
    for (size_t i = 0; i <= NF_NOTES; i++) {
        snprintf(keys[i], sizeof keys[i], "%zu", i);
        many[i] = (nf_note){.key = keys[i], .text = ""};
    }
    cr_assert_eq(nf_model_set_notes(m, NF_NOTES, many), NF_EARG); /* with those that are there */
    cr_assert(strstr(nf_error_message(), "1003 notes"), "%s", nf_error_message());
    cr_assert_eq(nf_model_set_notes(m, NF_NOTES + 1, many), NF_EARG);
    set_notes(m, NF_NOTES - 3, many);
    for (size_t i = 0; i < 3; i++)
        many[i].text = text + 1;
    cr_assert_eq(nf_model_set_notes(m, 3, many), NF_EARG); /* four million bytes, and then some */
    cr_assert(strstr(nf_error_message(), "bytes, but at most 1000 with 4194304"), "%s", nf_error_message());
    set_notes(m, 2, many);
    save(m, path);
    nf_model *back = nf_load(path, NULL);
    cr_assert_not_null(back, "%s", nf_error_message());
    has(back, "1", text + 1);
    has(back, long_key, "a");
    nf_model_free(back);
    cr_assert_eq(nf_model_set_notes(NULL, 0, NULL), NF_EARG);
    cr_assert_eq(nf_model_set_notes(m, 1, NULL), NF_EARG);
    set_notes(m, 0, NULL);
    size_t n = 7;
    cr_assert(!nf_model_notes(NULL, &n) && n == 0 && !nf_model_note(NULL, "a") && !nf_model_note(m, NULL));
    nf_model_free(m);
}

/* A file's notes are within the limits too; metadata of other programs do no harm. */
Test(model_file, notes_of_a_file)
{
    nf_model *m = make(1);
    set_notes(m, 1, (nf_note[]){{"a", "b"}});
    save(m, path);
    nf_model_free(m);
    replace("\"note.a\":", "\"note.\":");
    refused(other, "note 0 has no key");
    replace("\"note.a\":\"b\"", "\"note.a\":7");
    refused(other, "not a string");
    char key[NF_NOTE_KEY + 20] = "\"note.";
    memset(key + 6, 'k', NF_NOTE_KEY + 1);
    strcat(key, "\":");
    replace("\"note.a\":", key);
    refused(other, "more than 128 bytes");
    replace("\"note.a\":", "\"a\":");
    m = nf_load(other, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_null(nf_model_notes(m, NULL));
    nf_model_free(m);
}

Test(model_file, notes_without_memory)
{
    nf_model *m = make(1);
    set_notes(m, 1, (nf_note[]){{"a", "old"}});
    save(m, path);
    for (int how = 0; how < 2; how++)
        for (size_t k = 0;; k++) {
            const size_t live = alloc_live();
            nf_model *back = NULL;
            fail_alloc_once(k);
            nf_status status = NF_OK;
            if (how == 0)
                status = nf_model_set_notes(m, 1, (nf_note[]){{"a", "new"}});
            else if (!(back = nf_load(path, NULL)))
                status = nf_error_status();
            const bool failed = fail_alloc_off();
            cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "%s", nf_error_message());
            if (how == 0)
                has(m, "a", failed ? "old" : "new");
            nf_model_free(back);
            cr_assert_eq(alloc_live(), live);
            if (!failed)
                break;
        }
    nf_model_free(m);
}

/* The format's own rules, read by somebody else. */
static const char reader_program[] =
    "import json, math, struct, sys\n"
    "b = open(sys.argv[1], 'rb').read()\n"
    "n = struct.unpack('<Q', b[:8])[0]\n"
    "assert n % 8 == 0 and n <= 100000000 and b[8:9] == b'{'\n"
    "def unique(pairs):\n"
    "    assert len(dict(pairs)) == len(pairs)\n"
    "    return dict(pairs)\n"
    "h = json.loads(b[8:8 + n].decode('utf-8'), object_pairs_hook=unique)\n"
    "meta = h.pop('__metadata__')\n"
    "assert all(type(v) is str for v in meta.values())\n"
    "assert meta['format'] == 'nflow' and meta['format_version'] == '1' and meta['library_version']\n"
    "a = json.loads(meta['architecture'], object_pairs_hook=unique)\n"
    "assert a['kind'] == 'flow' and a['type'] == 'wavy' and a['dim_in'] == a['dim_out'] == 3 and a['n_ctx'] == 0\n"
    "assert a['children'] == [] and a['fields']['tenth'] == 0.1 and a['fields']['big'] == str(2**64 - 5)\n"
    "assert list(h) == ['matrix', 'bias', 'state'], list(h)\n"
    "assert h['matrix']['shape'] == [2, 3] and h['bias']['shape'] == [] and h['state']['shape'] == [3]\n"
    "end = 0\n"
    "values = []\n"
    "for t in h.values():\n"
    "    size, code = {'F32': (4, 'f'), 'F64': (8, 'd')}[t['dtype']]\n"
    "    begin, stop = t['data_offsets']\n"
    "    assert begin == end and stop - begin == size * math.prod(t['shape'])\n"
    "    values += struct.unpack('<%d%s' % ((stop - begin) // size, code), b[8 + n + begin:8 + n + stop])\n"
    "    end = stop\n"
    "assert 8 + n + end == len(b)\n"
    "print(' '.join('%.17g' % v for v in values))\n";

Test(model_file, read_by_python)
{
    if (system("python3 -c '' 2>/dev/null") != 0)
        cr_skip("there is no python3");
    nf_model *m = make_perturbed(12);
    save(m, path);
    char program[128], command[512];
    snprintf(program, sizeof program, "%s/read.py", folder);
    file_write(program, reader_program, strlen(reader_program));
    snprintf(command, sizeof command, "python3 %s %s", program, path);
    FILE *f = popen(command, "r");
    for (size_t i = 0; i < 10; i++) {
        double value;
        cr_assert_eq(fscanf(f, "%lf", &value), 1);
        cr_assert_eq(value, (double)(i < 7 ? nf_model_theta(m)[i] : nf_model_state(m)[i - 7]));
    }
    cr_assert_eq(pclose(f), 0);
    nf_model_free(m);
}

/* ---- the other precision ---- */

static const char affine_header[] =
    "{\"__metadata__\":{\"format\":\"nflow\",\"format_version\":\"1\",\"architecture\":"
    "\"{\\\"kind\\\":\\\"flow\\\",\\\"type\\\":\\\"affine\\\",\\\"dim_in\\\":2,\\\"dim_out\\\":2,\\\"n_ctx\\\":0,"
    "\\\"fields\\\":{},\\\"children\\\":[]}\"},"
    "\"s\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[%d,%d]},"
    "\"m\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[%d,%d]}}   ";

/* By hand, s before m in the file (theta is m, s), in single and double precision and mixed. */
Test(model_file, either_precision)
{
    static const double value[4] = {0.1, -7.0625e30, 1.0 / 3.0, 2.385}; /* s, m */
    for (int mix = 0; mix < 4; mix++) {
        unsigned char data[32];
        int width[2] = {mix & 1 ? 8 : 4, mix & 2 ? 8 : 4}, at = 0;
        for (int i = 0; i < 4; i++) {
            float narrow = (float)value[i];
            memcpy(data + at, width[i / 2] == 8 ? (const void *)&value[i] : &narrow, (size_t)width[i / 2]);
            at += width[i / 2];
        }
        char header[1024];
        snprintf(header, sizeof header, affine_header, width[0] == 8 ? "F64" : "F32", 0, 2 * width[0],
                 width[1] == 8 ? "F64" : "F32", 2 * width[0], at);
        compose(path, 0, header, data, (size_t)at);
        nf_model *m = nf_load(path, NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        for (size_t i = 0; i < 4; i++) {
            nf_real wanted = width[i / 2] == 8 ? (nf_real)value[i] : (nf_real)(float)value[i];
            cr_assert_eq(nf_model_theta(m)[(i + 2) % 4], wanted, "mix %d, number %zu", mix, i);
        }
        nf_model_free(m);
    }
}

Test(model_file, too_large_for_single_precision)
{
    static const double value[4] = {0.1, 0.2, 0.3, -7.3e180};
    char header[1024];
    snprintf(header, sizeof header, affine_header, "F64", 0, 16, "F64", 16, 32);
    compose(path, 0, header, value, sizeof value);
    nf_model *m = nf_load(path, NULL);
    if (sizeof(nf_real) == sizeof(double)) {
        cr_assert_eq((double)nf_model_theta(m)[1], value[3]);
        nf_model_free(m);
    } else {
        cr_assert_null(m);
        refused(path, "number 1 of tensor 'm' is too large");
    }
}

/* All 65536 halves and all 65536 brain floats, by the definition of their bits. */
Test(model_file, half_precision)
{
    for (int brain = 0; brain < 2; brain++) {
        const int fraction_bits = brain ? 7 : 10, most = brain ? 255 : 31, bias = brain ? 127 : 15;
        static unsigned char data[1 << 17];
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (unsigned char)(i % 2 ? i >> 9 : i >> 1);
        char header[600];
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{\"format\":\"nflow\",\"format_version\":\"1\",\"architecture\":"
                 "\"{\\\"kind\\\":\\\"flow\\\",\\\"type\\\":\\\"shift\\\",\\\"dim_in\\\":65536}\"},"
                 "\"m\":{\"dtype\":\"%s\",\"shape\":[65536],\"data_offsets\":[0,131072]}}",
                 brain ? "BF16" : "F16");
        compose(path, 0, header, data, sizeof data);
        nf_model *m = nf_load(path, NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        for (int bits = 0; bits < 65536; bits++) {
            const int exponent = bits >> fraction_bits & most, fraction = bits & ((1 << fraction_bits) - 1);
            const double one = exponent ? 1 : 0, scale = ldexp(1, (exponent ? exponent : 1) - bias);
            double wanted = scale * (one + ldexp(fraction, -fraction_bits));
            if (exponent == most)
                wanted = fraction ? (double)NAN : INFINITY;
            if (bits & 0x8000)
                wanted = -wanted;
            const double is = (double)nf_model_theta(m)[bits];
            cr_assert(isnan(wanted) ? isnan(is) : is == wanted && !signbit(is) == !signbit(wanted),
                      "%s %04x: %.17g, expected %.17g", brain ? "BF16" : "F16", bits, is, wanted);
        }
        nf_model_free(m);
    }
}

/* Files that other programs write: one line says what they are, whatever their tensors. */
Test(model_file, files_of_other_programs)
{
    static const struct {
        const char *header, *said;
    } file[] = {
        {"{\"__metadata__\":{\"format\":\"pt\"},\"conv\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,"
         "4]},"
         "\"ids\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         "a safetensors file, but not a model of this library: its metadata name the format 'pt', and it has 2 "
         "tensors, such as 'conv' (F16)"},
        {"{\"ids\":{\"dtype\":\"BOOL\",\"shape\":[8],\"data_offsets\":[0,8]}}",
         "a safetensors file, but not a model of this library: its metadata name no format, and it has 1 tensors, such "
         "as 'ids' (BOOL)"},
        {"{\"__metadata__\":{\"format\":\"nflow checkpoint\",\"format_version\":\"1\"},"
         "\"theta\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
         "not a model of this library: its metadata name the format 'nflow checkpoint'"},
    };
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        compose(path, 0, file[i].header, "abcdefgh", 8);
        refused(path, file[i].said);
        cr_assert_null(strchr(nf_error_message(), '\n'));
    }
}

/* ---- unknown and wrong types ---- */

Test(model_file, unknown_types)
{
    static const char *const name[] = {"'flat'", "'square'", "'wavy'"};
    for (size_t i = 0; i < 3; i++) {
        nf_model *m = make(10 + i);
        save(m, path);
        nf_model_free(m);
        cr_assert_null(nf_load(path, NULL));
        cr_assert_eq(nf_error_status(), NF_EFORMAT);
        cr_assert(strstr(nf_error_message(), name[i]) && strstr(nf_error_message(), "nf_types"), "%s",
                  nf_error_message());
    }
}

static nf_flow *rebuild_silently(nf_reader *r)
{
    (void)r;
    return NULL;
}

static nf_flow *rebuild_with_error(nf_reader *r)
{
    (void)r;
    nf_error(NF_EDIM, "the cows disagree");
    return NULL;
}

static nf_flow *rebuild_wider(nf_reader *r)
{
    return wavy_new(&wavy_type, nf_read_dim_in(r) + 1, &wavy_fields);
}

static nf_flow *rebuild_as_another(nf_reader *r)
{
    return nf_affine(nf_read_dim_in(r));
}

Test(model_file, hooks_that_fail)
{
    static const struct {
        nf_flow *(*rebuild)(nf_reader *);
        const char *trouble;
    } bad[] = {{NULL, "no rebuild hook"},
               {rebuild_silently, "flow 'wavy'"},
               {rebuild_with_error, "flow 'wavy': the cows disagree"},
               {rebuild_wider, "is 4 -> 4"},
               {rebuild_as_another, "rebuilt as flow 'affine'"}};
    nf_model *m = make(12);
    save(m, path);
    nf_model_free(m);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nf_flow_type type = wavy_type;
        type.rebuild = bad[i].rebuild;
        nf_types list = {.flows = (const nf_flow_type *const[]){&type}, .n_flows = 1};
        cr_assert_null(nf_load(path, &list));
        cr_assert_eq(nf_error_status(), NF_EFORMAT, "%s", nf_error_message());
        cr_assert(strstr(nf_error_message(), bad[i].trouble), "%s", nf_error_message());
    }
}

static void one_slice(const nf_object *o, nf_slice_fn *each, void *user)
{
    (void)o;
    each(user, "matrix", 0, 2, (size_t[]){2, 3});
}

static void slices_that_overlap(const nf_object *o, nf_slice_fn *each, void *user)
{
    one_slice(o, each, user);
    each(user, "bias", 5, 0, NULL);
}

static void slices_beyond(const nf_object *o, nf_slice_fn *each, void *user)
{
    one_slice(o, each, user);
    each(user, "bias", 6, 2, (size_t[]){SIZE_MAX / 2, 4});
}

static void slices_too_long(const nf_object *o, nf_slice_fn *each, void *user)
{
    one_slice(o, each, user);
    each(user, "bias", 6, 1, (size_t[]){2});
}

static void slices_of_one_name(const nf_object *o, nf_slice_fn *each, void *user)
{
    one_slice(o, each, user);
    each(user, "matrix", 6, 0, NULL);
}

static void slice_called_state(const nf_object *o, nf_slice_fn *each, void *user)
{
    one_slice(o, each, user);
    each(user, "state", 6, 0, NULL);
}

static nf_status describe_twice(const nf_object *o, nf_writer *w)
{
    nf_status status = wavy_describe(o, w);
    return status == NF_OK ? nf_write_number(w, "big", 2.5) : status;
}

static nf_status describe_badly(const nf_object *o, nf_writer *w)
{
    (void)o, (void)w;
    return nf_error(NF_EUNSUPPORTED, "wavy: no description today");
}

Test(model_file, types_that_cannot_be_saved)
{
    static const struct {
        void (*slices)(const nf_object *o, nf_slice_fn *each, void *user);
        nf_status (*describe)(const nf_object *o, nf_writer *w);
        nf_status status;
        const char *trouble;
    } bad[] = {{one_slice, wavy_describe, NF_EARG, "6 of 7"},
               {slices_that_overlap, wavy_describe, NF_EARG, "bias begins at parameter 5"},
               {slices_beyond, wavy_describe, NF_EARG, "bias"},
               {slices_too_long, wavy_describe, NF_EARG, "bias begins at parameter 6 and has 2"},
               {slices_of_one_name, wavy_describe, NF_EARG, "'matrix'"},
               {slice_called_state, wavy_describe, NF_EARG, "'state'"},
               {wavy_slices, describe_twice, NF_EARG, "'big' twice"},
               {wavy_slices, describe_badly, NF_EUNSUPPORTED, "no description today"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nf_flow_type type = wavy_type;
        type.part.slices = bad[i].slices;
        type.part.describe = bad[i].describe;
        nf_model *m = nf_model_of_flow(wavy_new(&type, 2, &wavy_fields), NULL);
        cr_assert_eq(nf_save(m, path), bad[i].status, "%s", nf_error_message());
        cr_assert(strstr(nf_error_message(), bad[i].trouble), "%s", nf_error_message());
        cr_assert_neq(access(path, F_OK), 0);
        nf_model_free(m);
    }
}

Test(model_file, too_deep_to_save)
{
    nf_flow *f = nf_planar(2);
    for (int i = 0; i < 63; i++)
        f = nf_invert(f);
    nf_model *m = nf_model_of_flow(nf_flow_ref(f), NULL);
    save(m, path);
    nf_model_free(m);
    nf_model *back = nf_load(path, NULL);
    cr_assert_not_null(back, "%s", nf_error_message());
    nf_model_free(back);
    m = nf_model_of_flow(nf_invert(f), NULL);
    cr_assert_eq(nf_save(m, other), NF_EUNSUPPORTED);
    nf_model_free(m);
}

/* ---- damage ---- */

Test(model_file, bytes_behind_the_data)
{
    nf_model *m = make_perturbed(10);
    save(m, path);
    nf_model_free(m);
    size_t n;
    unsigned char *bytes = file_read(path, &n);
    bytes[n] = 0x41;
    file_write(other, bytes, n + 1);
    refused(other, "bytes of data, but the tensors have");
    free(bytes);
}

static nf_status read_model(const char *file)
{
    nf_model *m = nf_load(file, &types);
    cr_assert(m || strstr(nf_error_message(), file), "%s", nf_error_message());
    nf_model_free(m);
    return m ? NF_OK : nf_error_status();
}

/* As nflow/model.h has it, and for the structure of a small model. */
static const damage_reader loader = {"nf_load", read_model, true, 100, 1 << 20};

static void damage_model(size_t model)
{
    enum { STEP = 43, VALUES = 6 };
    nf_model *m = make_perturbed(model);
    save(m, path);
    nf_model_free(m);
    unsigned char *bytes, *data;
    size_t n_data;
    char *header = take_apart(path, &bytes, &data, &n_data);
    const size_t n_header = (size_t)(data - bytes), n = n_header + n_data;
    json_memory_count();
    const size_t n_refused = damage_everywhere(&loader, other, bytes, n, STEP);
    cr_assert_gt(n_refused, n + 2 * VALUES * n_header / 3); /* most of the header says something */
    uint32_t random = 20150721;
    for (size_t round = 0; round < 500; round++) {
        unsigned char *copy = malloc(n);
        memcpy(copy, bytes, n);
        for (size_t i = 0; i <= round % 7; i++) {
            random = random * 1664525u + 1013904223u;
            copy[(random >> 8) % n_header] = (unsigned char)"0129\"{}[],:\\e-"[(random >> 3) % 14];
        }
        file_write(other, copy, n);
        damage_read(&loader, other, n, "random changes, round", round);
        free(copy);
    }
    free(header);
    free(bytes);
}

Test(model_file, header_damaged_anywhere)
{
    damage_model(10);
}

Test(model_file, header_of_a_posterior_damaged_anywhere)
{
    damage_model(5);
}

/* JSON whose parsed form takes the most for its length, in the header and in the architecture. */
Test(model_file, memory_follows_the_text)
{
    enum { LENGTH = 30000 };
    static const char *const dense[] = {"{}", "[]", "0", "[[[]]]"};
    static const char *const around[2][2] = {{"{\"a\":[0", "]}"},
                                             {"{\"__metadata__\":{\"format\":\"nflow\",\"format_version\":\"1\","
                                              "\"architecture\":\"[0",
                                              "]\"}}"}};
    json_memory_count();
    for (size_t where = 0; where < 2; where++)
        for (size_t k = 0; k < 4; k++) {
            char *text = malloc(LENGTH + 200), *at = text + sprintf(text, "%s", around[where][0]);
            while (at < text + LENGTH)
                at += sprintf(at, ",%s", dense[k]);
            at += sprintf(at, "%s", around[where][1]);
            compose(other, 0, text, NULL, 0);
            cr_assert_not(damage_read(&loader, other, (size_t)(at - text) + 8, dense[k], where));
            free(text);
        }
}

/* Model 12's header, one thing changed. */
Test(model_file, header_lies)
{
    const bool single = sizeof(nf_real) == sizeof(float);
    const char *matrix = single ? "[0,24]" : "[0,48]", *bias = single ? "[24,28]" : "[48,56]";
    const char *dtype = single ? "\"F32\"" : "\"F64\"";
    const struct {
        const char *from, *to, *trouble;
    } change[] = {
        {dtype, "\"F16\"", "'matrix' has no dtype"},
        {dtype, "\"BF16\"", "'matrix' has no dtype"},
        {dtype, "\"I64\"", "'matrix' has 2 indices and dtype I64"},
        {dtype, "7", "'matrix' has no dtype"},
        {dtype, single ? "\"F64\"" : "\"F32\"", "'matrix' has no dtype"},
        {"[2,3]", "[3,2]", "has rank 2 and 6 numbers"},
        {"[2,3]", "[6]", "has rank 1 and 6 numbers"},
        {"[2,3]", "[2,4]", "that agree"},
        {"[2,3]", "[-2,-3]", "that agree"},
        {"[2,3]", "[2.0,3]", "that agree"},
        {"[2,3]", "[1,1,1,2,3]", "'matrix' has 5 indices"},
        {"[2,3]", "[4294967296,4294967296,6]", "that agree"},
        {"[2,3]", "[0,9223372036854775807,4]", "that agree"},
        {"[2,3]", "[99999999999999999999]", "damaged header"},
        {matrix, bias, "that agree"},
        {matrix, single ? "[4,28]" : "[8,56]", "begins at byte"},
        {bias, single ? "[0,4]" : "[0,8]", "begins at byte"},
        {bias, single ? "[20,24]" : "[40,48]", "begins at byte"},
        {bias, single ? "[28,32]" : "[56,64]", "begins at byte"},
        {bias, "[9223372036854775803,9223372036854775807]", single ? "begins at byte" : "that agree"},
        {bias, "[28]", "that agree"},
        {bias, "[56,48]", "that agree"},
        {"\"bias\"", "\"matrix\"", "duplicate"},
        {"\"bias\"", "\"bios\"", "'bias' is missing"},
        {"\"bias\"", "\"empty\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\"bias\"", "'empty' is none"},
        {"\"bias\"", "\"empty\":[],\"bias\"", "'empty' has no dtype"},
        {"\"format\":\"nflow\"", "\"format\":\"pt\"", "the format 'pt', and it has 3 tensors, such as 'bias' (F"},
        {"\"format\":\"nflow\"", "\"format\":7", "not a string"},
        {"\"format_version\":\"1\"", "\"format_version\":\"2\"", "format version '2'"},
        {"\"architecture\"", "\"archetype\"", "architecture: it is missing"},
        {"\"architecture\":\"{", "\"architecture\":\"", "damaged architecture"},
        {"\"__metadata__\":{", "\"__metadata__\":[],\"x\":{", "__metadata__ is not an object"},
        {"\"__metadata__\"", "\"__métadata__\"", "'__métadata__' has no dtype"},
        {"\"__metadata__\"", "\"\xff__metadata__\"", "damaged header"},
        {"\\\"flow\\\"", "\\\"cow\\\"", "no kind 'cow'"},
        {"\\\"flow\\\"", "\\\"vae\\\"", "no type 'wavy'"},
        {"\\\"wavy\\\"", "\\\"curly\\\"", "no type 'curly'"},
        {"\\\"dim_in\\\":3", "\\\"dim_in\\\":4", "wavy"},
        {"\\\"dim_in\\\":3", "\\\"dim_in\\\":1000000000000", "dim_in"},
        {"\\\"dim_in\\\":3", "\\\"dim_in\\\":-3", "dim_in"},
        {"\\\"n_ctx\\\":0", "\\\"n_ctx\\\":1", "wavy"},
        {"\\\"kind\\\":\\\"flow\\\",", "", "lacks"},
        {"\\\"fields\\\":{", "\\\"fields\\\":{\\\"cows\\\":1,", "the field 'cows' is unknown"},
        {"\\\"n_ctx\\\":0,", "\\\"n_ctx\\\":0,\\\"cows\\\":1,", "lacks"},
        {"\\\"children\\\":[]", "\\\"children\\\":7", "children"},
        {"\\\"children\\\":[]", "\\\"children\\\":[7]", "lacks"},
        {"\\\"tenth\\\"", "\\\"zehntel\\\"", "the field 'tenth' is missing"},
        {"\\\"18446744073709551611\\\"", "\\\"18446744073709551616\\\"", "'big' is not"},
        {"\\\"18446744073709551611\\\"", "-1", "'big' is not"},
        {"\\\"list\\\":[17,0,", "\\\"list\\\":[17,", "'list' is not an array of 3"},
        {"\\\"list\\\":[17,0,", "\\\"list\\\":[17,-1,", "item 1 of the field 'list'"},
    };
    nf_model *m = make_perturbed(12);
    save(m, path);
    nf_model_free(m);
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        replace(change[i].from, change[i].to);
        refused(other, change[i].trouble);
    }
}

Test(model_file, header_length_lies)
{
    static const struct {
        uint64_t length;
        const char *trouble;
    } lie[] = {{1, "1 bytes is impossible"},
               {2, "damaged header"},
               {9, "truncated"},
               {1 << 20, "truncated"},
               {99999999, "truncated"},
               {100000001, "100000001 bytes is impossible"},
               {UINT64_C(1) << 63, "impossible"},
               {UINT64_MAX, "impossible"},
               {UINT64_MAX - 7, "impossible"}};
    size_t before = peak_megabytes();
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        compose(other, lie[i].length, "{\"a\":{}}", NULL, 0);
        refused(other, lie[i].trouble);
    }
    compose(other, 0, "{}", NULL, 0);
    refused(other, "not a model of this library");
    compose(other, 0, " {}     ", NULL, 0);
    refused(other, "does not begin with '{'");
    compose(other, 0, "{\"a\":\"b\\u0000c\"}", NULL, 0);
    refused(other, "damaged header");
    cr_assert_leq(peak_megabytes() - before, 32);
}

/* A file around one architecture, without tensors. */
static void write_architecture(const char *architecture)
{
    size_t n = strlen(architecture), at = 0;
    char *header = malloc(2 * n + 200);
    at +=
        (size_t)sprintf(header, "{\"__metadata__\":{\"format\":\"nflow\",\"format_version\":\"1\",\"architecture\":\"");
    for (size_t i = 0; i < n; i++) {
        if (architecture[i] == '"')
            header[at++] = '\\';
        header[at++] = architecture[i];
    }
    strcpy(header + at, "\"}}");
    compose(other, 0, header, NULL, 0);
    free(header);
}

/* Sizes that would need terabytes are refused without asking for them. */
Test(model_file, sizes_are_not_believed)
{
#define NODE(kind, type, in, out, ctx, fields, children)                                                \
    "{\"kind\":\"" kind "\",\"type\":\"" type "\",\"dim_in\":" in ",\"dim_out\":" out ",\"n_ctx\":" ctx \
    ",\"fields\":{" fields "},\"children\":[" children "]}"
#define MLP(in, out, hidden)                                                                                       \
    NODE("net", "mlp", in, out, "0",                                                                               \
         "\"hidden\":[" hidden                                                                                     \
         "],\"activation\":\"relu\",\"output\":\"identity\",\"init\":\"auto\",\"last_scale\":1.0,\"dropout\":0.0", \
         "")
#define MAXOUT(window, dropout)                                                                \
    NODE("net", "maxout_mlp", "3", "2", "0",                                                   \
         "\"hidden\":[5],\"window\":" window                                                   \
         ",\"output\":\"identity\",\"init\":\"auto\",\"last_scale\":1.0,\"dropout\":" dropout, \
         "")
#define RESIDUAL(width, blocks, unit)                                                   \
    NODE("net", "residual_mlp", "3", "2", "0",                                          \
         "\"width\":" width ",\"n_blocks\":" blocks ",\"activation\":\"" unit           \
         "\",\"init\":\"auto\",\"block_scale\":0.0,\"last_scale\":1.0,\"dropout\":0.0", \
         "")
#define MASKED(dim, out, hidden, per_dim, blocks)                                         \
    NODE("net", "masked_net", dim, out, "0",                                              \
         "\"hidden\":[" hidden "],\"per_dim\":" per_dim ",\"n_blocks\":" blocks           \
         ",\"activation\":\"relu\",\"init\":\"auto\",\"last_scale\":1.0,\"dropout\":0.0", \
         "")
#define LU(dim) NODE("flow", "lu_linear", dim, dim, "0", "\"seed\":7", "")
#define PLANAR(dim) NODE("flow", "planar", dim, dim, "0", "", "")
    static const char *const architecture[] = {
        MLP("3", "2", "1000000000,1000000000"),
        MLP("3", "2", "18446744073709551615,18446744073709551615"),
        MLP("3", "2", "\"18446744073709551615\",\"18446744073709551615\""),
        MLP("1000000000", "2", "3"),
        MLP("4194304", "4194304", "4194304"),
        MLP("3", "2", "0"),
        MAXOUT("0", "0.0"),
        MAXOUT("3", "1.0"),
        MAXOUT("3", "\"nan\""),
        MAXOUT("1000000000", "0.0"),
        MAXOUT("\"18446744073709551615\"", "0.0"),
        RESIDUAL("5", "2", "cow"),
        RESIDUAL("5", "\"18446744073709551615\"", "relu"),
        RESIDUAL("5", "1000000000", "relu"),
        RESIDUAL("4000000000", "2", "relu"),
        MASKED("3", "6", "1000000000", "2", "0"),
        MASKED("3", "6", "\"18446744073709551615\",2", "2", "0"),
        MASKED("3", "6", "7", "2", "1000000000"),
        MASKED("3", "6", "7", "1000000000", "1"),
        MASKED("4194304", "4194304", "7", "1", "1"),
        LU("4194304"),
        LU("4194305"),
        LU("0"),
        LU("9223372036854775807"),
        NODE("flow", "chain", "4194304", "4194304", "0", "", LU("4194304") "," LU("4194304")),
        NODE("flow", "chain", "2", "2", "0", "", ""),
        NODE("flow", "chain", "2", "2", "0", "", PLANAR("2") "," PLANAR("3")),
        NODE("flow", "chain", "2", "2", "0", "", NODE("dist", "normal", "2", "2", "0", "", "")),
        NODE("flow", "invert", "2", "2", "0", "", ""),
        NODE("flow", "invert", "2", "2", "0", "", MLP("2", "2", "")),
        NODE("flow", "invert", "2", "2", "0", "", PLANAR("2") "," PLANAR("2")),
        NODE("flow", "amortized", "2", "2", "0", "", ""),
        NODE("flow", "amortized", "2", "2", "5", "", PLANAR("2") "," PLANAR("2")),
        NODE("flow", "amortized", "2", "2", "5", "", LU("2")),
        NODE("flow", "amortized", "2", "2", "3", "", PLANAR("2") "," MLP("3", "4", "")),
        NODE("flow", "on_context", "2", "2", "5", "\"first\":18446744073709551615", PLANAR("2")),
        NODE("flow", "on_context", "2", "2", "5", "\"first\":\"18446744073709551615\"", PLANAR("2")),
        NODE("flow", "permutation", "2", "2", "0", "\"order\":[0,0]", ""),
        NODE("flow", "permutation", "2", "2", "0", "\"order\":[0,4194304]", ""),
        NODE("flow", "permutation", "2", "2", "0", "\"order\":[]", ""),
        NODE("dist", "normal", "0", "0", "0", "", ""),
        NODE("dist", "pushforward", "2", "2", "0", "", PLANAR("2") "," PLANAR("2")),
        NODE("dist", "pushforward", "2", "2", "0", "", NODE("dist", "normal", "2", "2", "0", "", "")),
        NODE("dist", "pushforward", "2", "2", "0", "", ""),
        NODE("vae", "vae", "2", "2", "0", "\"likelihood\":\"bernoulli\"", ""),
        NODE("vae", "vae", "2", "2", "0", "\"likelihood\":\"poisson\"",
             MLP("2", "4", "") "," MLP("2", "4", "") "," MLP("2", "4", "")),
        NODE("vae", "vae", "2", "2", "0", "", ""),
        "[]",
        "{}",
        "7",
    };
    size_t before = peak_megabytes();
    for (size_t i = 0; i < sizeof architecture / sizeof *architecture; i++) {
        write_architecture(architecture[i]);
        refused(other, "nf_load");
    }
    write_architecture(NODE("flow", "chain", "1024", "1024", "0", "", LU("1024") "," LU("1024")));
    refused(other, "flow 'lu_linear' has 1049600 parameters"); /* before the second is built */
    write_architecture(PLANAR("4194304"));
    refused(other, "has 8388609 parameters and 0 of state, the file 0 numbers");
    /* The largest is one layer's structure; AddressSanitizer keeps 256 MiB of what was freed. */
    cr_assert_leq(peak_megabytes() - before, NFLOW_THIN ? 512 : 256);
    write_architecture(NODE("dist", "normal", "2", "2", "0", "", "")); /* what is refused above is not the writing */
    nf_model *m = nf_load(other, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_model_free(m);
}

Test(model_file, nested_too_deeply)
{
    static const int depths[] = {64, 65, 2000, 100000};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        static const char open[] = "{\"kind\":\"flow\",\"type\":\"invert\",\"dim_in\":2,\"dim_out\":2,\"n_ctx\":0,"
                                   "\"fields\":{},\"children\":[";
        char *text = malloc((size_t)depths[i] * (sizeof open + 2) + 300), *at = text;
        for (int d = 0; d < depths[i]; d++)
            at += sprintf(at, "%s", open);
        at += sprintf(at, "%s", NODE("flow", "permutation", "2", "2", "0", "\"order\":[1,0]", ""));
        for (int d = 0; d < depths[i]; d++)
            at += sprintf(at, "]}");
        write_architecture(text);
        refused(other, depths[i] < 500 ? "more than 64" : "damaged architecture");
        free(text);
    }
    char *brackets = malloc(200000);
    memset(brackets, '[', 199999);
    brackets[199999] = 0;
    memcpy(brackets, "{\"a\":", 5);
    compose(other, 0, brackets, NULL, 0);
    refused(other, "damaged header");
    free(brackets);
}

/* ---- paths, memory, arguments ---- */

Test(model_file, bad_calls)
{
    nf_model *m = make(0);
    cr_assert_eq(nf_save(NULL, path), NF_EARG);
    cr_assert_eq(nf_save(m, NULL), NF_EARG);
    cr_assert_null(nf_load(NULL, NULL));
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert_null(nf_load(path, NULL));
    cr_assert_eq(nf_error_status(), NF_EIO);
    cr_assert(strstr(nf_error_message(), path) && strstr(nf_error_message(), "No such file"));
    cr_assert_null(nf_load(folder, NULL));
    cr_assert_eq(nf_error_status(), NF_EIO);
    cr_assert_eq(nf_write_integer(NULL, "a", 1), NF_EARG);
    cr_assert_eq(nf_write_number(NULL, "a", 1.5), NF_EARG);
    cr_assert_eq(nf_write_integers(NULL, "a", 1, &(size_t){3}), NF_EARG);
    cr_assert_eq(nf_write_integers(NULL, "a", 1, NULL), NF_EARG);
    cr_assert_eq(nf_write_numbers(NULL, "a", 1, NULL), NF_EARG);
    cr_assert_eq(nf_read_numbers(NULL, "a", 1, &(double){0}), NF_EARG);
    cr_assert_eq(nf_read_length(NULL, "a"), 0);
    cr_assert_eq(nf_read_n_children(NULL), 0);
    cr_assert_eq(nf_read_n_numbers(NULL), 0);
    cr_assert_not(nf_read_is_file(NULL));
    cr_assert_null(nf_read_child(NULL, 0));
    nf_model_free(m);
}

Test(model_file, unwritable)
{
    nf_model *m = make_perturbed(4);
    char missing[160], slash[160], pipe[160];
    snprintf(missing, sizeof missing, "%s/missing/model", folder);
    snprintf(slash, sizeof slash, "%s/", folder);
    snprintf(pipe, sizeof pipe, "%s/pipe", folder);
    cr_assert_eq(mkfifo(pipe, 0600), 0);
    static const char *const trouble[] = {"No such file", "not a regular file", "not a regular file",
                                          "not a regular file", "no name"};
    const char *bad[] = {missing, folder, slash, pipe, ""};
    for (size_t i = 0; i < 5; i++) {
        cr_assert_eq(nf_save(m, bad[i]), NF_EIO, "%s", bad[i]);
        cr_assert(strstr(nf_error_message(), trouble[i]) && strstr(nf_error_message(), bad[i]), "%s",
                  nf_error_message());
    }
    nf_model_free(m);
    cr_assert_eq(temp_remove(folder), 1); /* the pipe */
}

/* The disk is full in mid-file: the old file stays, the temporary one goes. */
Test(model_file, disk_full)
{
    nf_model *m = make_perturbed(4);
    size_t whole;
    save(m, path);
    free(file_read(path, &whole));
    file_write(path, "precious", 8);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit < whole; limit += whole / 7) {
        struct rlimit old, small;
        getrlimit(RLIMIT_FSIZE, &old);
        small = (struct rlimit){.rlim_cur = limit, .rlim_max = old.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        nf_status status = nf_save(m, path);
        setrlimit(RLIMIT_FSIZE, &old);
        cr_assert_eq(status, NF_EIO, "limit %lu", (unsigned long)limit);
        cr_assert(strstr(nf_error_message(), path) && strstr(nf_error_message(), "too large"), "%s",
                  nf_error_message());
        size_t n;
        unsigned char *bytes = file_read(path, &n);
        cr_assert(n == 8 && memcmp(bytes, "precious", 8) == 0);
        free(bytes);
    }
    save(m, path); /* and is replaced when there is room again */
    nf_model *back = nf_load(path, NULL);
    cr_assert_not_null(back, "%s", nf_error_message());
    nf_model_free(back);
    nf_model_free(m);
    cr_assert_eq(temp_remove(folder), 1);
}

Test(model_file, allocation_failures)
{
    nf_model *m = make_perturbed(9);
    for (size_t k = 0;; k++) {
        size_t live = alloc_live();
        fail_alloc_once(k);
        nf_status status = nf_save(m, path);
        bool failed = fail_alloc_off();
        cr_assert_eq(alloc_live(), live, "allocation %zu", k);
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "allocation %zu: %s", k, nf_error_message());
        cr_assert_eq(access(path, F_OK) == 0, !failed);
        if (!failed) {
            cr_assert_geq(k, 3);
            break;
        }
    }
    nf_model_free(m);
    for (size_t k = 0;; k++) {
        size_t live = alloc_live();
        fail_alloc_once(k);
        nf_model *back = nf_load(path, NULL);
        bool failed = fail_alloc_off();
        cr_assert_eq(back == NULL, failed, "allocation %zu", k);
        cr_assert(!failed || nf_error_status() == NF_ENOMEM, "allocation %zu: %s", k, nf_error_message());
        nf_model_free(back);
        cr_assert_eq(alloc_live(), live, "allocation %zu", k);
        if (!failed) {
            cr_assert_geq(k, 30);
            break;
        }
    }
}
