/* Models of zuko, nflows and normflows, from their state dicts in tests/peers/import: log-densities and samples are
   those of the packages. tests/peers/export_state.py wrote the files. And what is refused. */
#include "peer_file.h"
#include "expect.h"
#include "fail_alloc.h"
#include "temp_files.h"
#include <stdio.h>

static const struct file {
    const char *name;
    double slack; /* of the tolerance, see peer_file.h */
    nf_import_options options;
} files[] = {
    {"zuko-maf", 1, {0}},
    {"zuko-maf_context", 1, {.family = NF_IMPORT_MAF}},
    {"zuko-iaf", 1, {.family = NF_IMPORT_IAF, .activation = NF_SWISH}},
    {"zuko-nsf", 4, {.family = NF_IMPORT_NSF}},
    {"zuko-nsf_context", 4, {.family = NF_IMPORT_NSF}},
    {"zuko-nsf_coupling", 4, {.family = NF_IMPORT_NSF, .min_slope = 0.01}},
    {"zuko-nsf_coupling_context", 4, {.family = NF_IMPORT_NSF, .min_slope = 0.01}},
    {"zuko-realnvp", 1, {.activation = NF_TANH}},
    {"zuko-passes", 1, {.family = NF_IMPORT_MAF}},
    {"zuko-single", 4, {.family = NF_IMPORT_NSF}},
    {"zuko-single_context", 4, {.family = NF_IMPORT_NSF}},
    {"nflows-realnvp", 1, {.family = NF_IMPORT_REALNVP}},
    {"nflows-nice", 1, {0}},
    {"nflows-maf", 1, {0}},
    {"nflows-maf_context", 1, {.activation = NF_TANH}},
    {"nflows-maf_residual", 1, {.family = NF_IMPORT_MAF}},
    {"nflows-single", 1, {.activation = NF_RELU}},
    {"nflows-iaf", 1, {0}},
    {"nflows-nsf_coupling", 10, {.family = NF_IMPORT_NSF, .tail_bound = 3}},
    {"nflows-nsf", 10, {.family = NF_IMPORT_NSF, .tail_bound = 2.5}},
    {"nflows-diagonal", 1, {0}},
    {"nflows-unit", 10, {.family = NF_IMPORT_NSF}},
    {"normflows-realnvp", 1, {.n_flows = 4}},
    {"normflows-sigmoid", 10, {.scale = NF_IMPORT_SCALE_SIGMOID, .split = NF_IMPORT_SPLIT_CHANNEL_INV}},
    {"normflows-sigmoid_inv", 1, {.scale = NF_IMPORT_SCALE_SIGMOID_INV, .split = NF_IMPORT_SPLIT_CHANNEL_INV}},
    {"normflows-nice", 1, {0}},
    {"normflows-masked", 1, {.activation = NF_LEAKY_RELU}},
    {"normflows-mixture", 1, {.family = NF_IMPORT_IAF}},
    {"normflows-maf", 1, {.family = NF_IMPORT_MAF}},
    {"normflows-maf_context", 1, {0}},
    {"normflows-nsf_coupling", 10, {0}},
    {"normflows-nsf", 10, {0}},
    {"normflows-residual", 10, {.family = NF_IMPORT_RESIDUAL, .lipschitz = 0.9}},
    {"normflows-glow", 10, {.height = 8, .width = 4}},
    {"normflows-glow_classes", 10, {.family = NF_IMPORT_GLOW}},
};
enum { N_FILES = sizeof files / sizeof *files, PATH = 160, STRIDE = NFLOW_THIN ? 101 : 7 };

static const char *path_of(char *path, const struct file *f, const char *ending)
{
    snprintf(path, PATH, "tests/peers/import/%s.%s", f->name, ending);
    return path;
}

Test(import, agrees_with_python)
{
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k++) {
        nf_model *m = nf_import(path_of(path, &files[k], "safetensors"), &files[k].options);
        cr_expect_not_null(m, "%s", nf_error_message());
        if (!m)
            continue;
        json_t *file = peer_file(path_of(path, &files[k], "json"));
        compare_with_peer(files[k].name, files[k].slack, file, m);
        json_decref(file);
        nf_model_free(m);
    }
}

/* ---- what is refused ---- */

/* A state dict in memory, whose header may be changed. */
typedef struct state {
    json_t *header;
    const unsigned char *data;
    size_t n_data;
    unsigned char *bytes;
} state;

static state state_of(const struct file *f)
{
    char path[PATH];
    size_t n, n_header = 0;
    unsigned char *bytes = file_read(path_of(path, f, "safetensors"), &n);
    for (size_t i = 8; i-- > 0;)
        n_header = n_header << 8 | bytes[i];
    json_t *header = json_loadb((const char *)bytes + 8, n_header, 0, NULL);
    cr_assert_not_null(header);
    return (state){header, bytes + 8 + n_header, n - 8 - n_header, bytes};
}

static void state_free(state *s)
{
    json_decref(s->header);
    free(s->bytes);
}

static const char *changed_path(void)
{
    static char path[PATH];
    snprintf(path, sizeof path, "%s/changed.safetensors", temp_name);
    return path;
}

static void state_write(const state *s)
{
    char *text = json_dumps(s->header, JSON_COMPACT);
    const size_t n = strlen(text);
    unsigned char *bytes = malloc(8 + n + s->n_data);
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(n >> 8 * i);
    memcpy(bytes + 8, text, n);
    memcpy(bytes + 8 + n, s->data, s->n_data);
    file_write(changed_path(), bytes, 8 + n + s->n_data);
    free(bytes), free(text);
}

/* The changed file is refused, with words that are in the message; nothing is left. */
static void expect_refused(const struct file *f, const char *words)
{
    const size_t before = alloc_live();
    nf_model *m = nf_import(changed_path(), &f->options);
    cr_assert_null(m, "%s: a file without %s was imported", f->name, words);
    cr_assert(nf_error_status() == NF_EFORMAT || nf_error_status() == NF_EUNSUPPORTED, "%s", nf_error_message());
    cr_assert(strstr(nf_error_message(), words), "%s: %s: %s", f->name, words, nf_error_message());
    cr_assert_eq(alloc_live(), before);
}

static void begin(void)
{
    temp_folder();
}

/* Tensors that say nothing that is not known without them: their shapes are not looked at. */
static bool says_nothing(const char *name)
{
    static const char *const endings[] = {".degrees",
                                          ".inv_perm",
                                          ".eye",
                                          "nnet.net.1.scale",
                                          "nnet.net.3.scale",
                                          ".geom_p",
                                          ".lamb",
                                          ".last_n_samples",
                                          ".last_firmom",
                                          ".last_secmom",
                                          ".initialized",
                                          "nnet.net.5.scale",
                                          "data_dep_init_done",
                                          "_log_z",
                                          "num_batches_tracked"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t n = strlen(name), m = strlen(endings[i]);
        if (n >= m && strcmp(name + n - m, endings[i]) == 0)
            return true;
    }
    return false;
}

Test(import, misses_no_tensor, .init = begin, .fini = temp_teardown)
{
    for (size_t k = 0; k < N_FILES; k++) {
        state s = state_of(&files[k]);
        json_t *names = json_object(), *value, *entry;
        json_object_update(names, s.header);
        const char *name;
        json_object_foreach(names, name, value)
        {
            entry = json_incref(value);
            json_object_del(s.header, name);
            json_object_set_new(s.header, "other", entry);
            state_write(&s);
            expect_refused(&files[k], "");
            json_object_del(s.header, "other");
            json_object_set(s.header, name, entry);
        }
        json_decref(names);
        state_free(&s);
    }
}

/* The tensor with rows and columns exchanged, or with twice as many numbers of half the length. */
static void other_extents(state *s, const struct file *f, json_t *entry)
{
    json_t *shape = json_object_get(entry, "shape"), *first = json_incref(json_array_get(shape, 0));
    json_t *second = json_incref(json_array_get(shape, 1));
    const bool single = strcmp(json_string_value(json_object_get(entry, "dtype")), "F32") == 0;
    if (json_array_size(shape) >= 2 && !json_equal(first, second)) {
        json_array_set(shape, 0, second);
        json_array_set(shape, 1, first);
        state_write(s);
        expect_refused(f, "");
        json_array_set(shape, 0, first);
        json_array_set(shape, 1, second);
    } else if (json_array_size(shape) == 1 && single) {
        json_array_set_new(shape, 0, json_integer(2 * json_integer_value(first)));
        json_object_set_new(entry, "dtype", json_string("F16"));
        state_write(s);
        expect_refused(f, "");
        json_array_set(shape, 0, first);
        json_object_set_new(entry, "dtype", json_string("F32"));
    }
    json_decref(first);
    json_decref(second);
}

Test(import, checks_every_shape, .init = begin, .fini = temp_teardown)
{
    for (size_t k = 0; k < N_FILES; k++) {
        state s = state_of(&files[k]);
        json_t *names = json_copy(s.header), *value;
        const char *name;
        json_object_foreach(names, name, value)
        {
            json_t *shape = json_object_get(value, "shape");
            if (says_nothing(name))
                continue;
            json_array_insert_new(shape, 0, json_integer(1)); /* as many numbers, another shape */
            state_write(&s);
            expect_refused(&files[k], "tensor");
            json_array_remove(shape, 0);
            other_extents(&s, &files[k], value);
        }
        json_decref(names);
        state_free(&s);
    }
}

Test(import, names_what_is_left_over, .init = begin, .fini = temp_teardown)
{
    for (size_t k = 0; k < N_FILES; k++) {
        state s = state_of(&files[k]);
        const json_int_t end = (json_int_t)s.n_data;
        json_object_set_new(
            s.header, "one.more",
            json_pack("{s:s, s:[i, i], s:[I, I]}", "dtype", "F32", "shape", 0, 3, "data_offsets", end, end));
        state_write(&s);
        expect_refused(&files[k], "tensor 'one.more' [0, 3] is left over");
        state_free(&s);
    }
}

Test(import, messages_have_names_and_shapes, .init = begin, .fini = temp_teardown)
{
    static const struct {
        const char *file, *tensor, *words; /* the tensor is removed, or its shape becomes [2, ...] */
        bool removed;
    } cases[] = {
        {"zuko-maf", "transform.transforms.1.hyper.2.bias", "tensor 'transform.transforms.1.hyper.2.bias' is missing",
         true},
        {"zuko-maf", "transform.transforms.0.hyper.2.weight", "has the shape [1, 7, 9], expected [any, 9]", false},
        {"nflows-maf", "_transform._transforms.1.autoregressive_net.final_layer.mask", "final_layer.mask' is missing",
         true},
        {"normflows-glow", "q0.1.loc", "tensor 'q0.1.loc' is missing", true},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (size_t k = 0; k < N_FILES; k++)
            if (strcmp(files[k].name, cases[c].file) == 0) {
                state s = state_of(&files[k]);
                json_t *entry = json_object_get(s.header, cases[c].tensor);
                cr_assert_not_null(entry, "%s", cases[c].tensor);
                if (cases[c].removed) {
                    json_object_set(s.header, "zzz", entry);
                    json_object_del(s.header, cases[c].tensor);
                } else
                    json_array_insert_new(json_object_get(entry, "shape"), 0, json_integer(1));
                state_write(&s);
                expect_refused(&files[k], cases[c].words);
                state_free(&s);
            }
}

/* The same flow as a part of a module that has other tensors, before and behind. */
Test(import, reads_a_part_of_a_module, .init = begin, .fini = temp_teardown)
{
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k++) {
        state s = state_of(&files[k]);
        json_t *part = json_object(), *value, *whole = s.header;
        const char *name;
        json_object_foreach(whole, name, value)
        {
            char longer[256];
            snprintf(longer, sizeof longer, "net.flow.%s", name);
            json_object_set(part, longer, value);
        }
        for (size_t i = 0; i < 2; i++)
            json_object_set_new(part, i ? "net.g" : "flow.weight",
                                json_pack("{s:s, s:[i], s:[I, I]}", "dtype", "I64", "shape", 0, "data_offsets",
                                          (json_int_t)s.n_data, (json_int_t)s.n_data));
        s.header = part;
        state_write(&s);
        nf_import_options options = files[k].options;
        cr_assert_null(nf_import(changed_path(), &options));
        options.prefix = "net.flow.";
        nf_model *m = nf_import(changed_path(), &options);
        cr_assert_not_null(m, "%s", nf_error_message());
        json_t *file = peer_file(path_of(path, &files[k], "json"));
        compare_with_peer(files[k].name, files[k].slack, file, m);
        json_decref(file);
        nf_model_free(m);
        options.prefix = "net.flows.";
        expect_none(nf_import(changed_path(), &options), NF_EFORMAT, "no tensor begins with 'net.flows.'");
        json_decref(whole);
        state_free(&s);
    }
}

/* Every mask of an autoregressive net, with a connection from the last feature in the order. */
Test(import, masks_are_autoregressive, .init = begin, .fini = temp_teardown)
{
    size_t n_masks = 0;
    for (size_t k = 0; k < N_FILES; k++) {
        state s = state_of(&files[k]);
        json_t *value;
        const char *name;
        json_object_foreach(s.header, name, value)
        {
            const json_t *places = json_object_get(value, "data_offsets");
            const size_t from = (size_t)json_integer_value(json_array_get(places, 0)),
                         to = (size_t)json_integer_value(json_array_get(places, 1)), length = strlen(name);
            if (length < 5 || strcmp(name + length - 5, ".mask") != 0 ||
                json_array_size(json_object_get(value, "shape")) != 2)
                continue;
            const bool single = strcmp(json_string_value(json_object_get(value, "dtype")), "F32") == 0;
            const float one = 1;
            unsigned char *mask = s.bytes + (s.data - s.bytes) + from, *kept = malloc(to - from);
            memcpy(kept, mask, to - from);
            memset(mask, 1, to - from);
            for (size_t i = 0; single && i < to - from; i += sizeof one)
                memcpy(mask + i, &one, sizeof one);
            if (memcmp(mask, kept, to - from) != 0) {
                state_write(&s);
                expect_refused(&files[k], "mask");
                n_masks++;
            }
            memcpy(mask, kept, to - from);
            free(kept);
        }
        state_free(&s);
    }
    cr_assert_gt(n_masks, 20);
}

/* All units of 60 have the degree 1 of 59: divided evenly, a layer would need 3482, and a matrix 12 million numbers. */
Test(import, memory_is_bounded_by_the_file, .init = begin, .fini = temp_teardown)
{
    enum { D = 60, H = 60, LAYERS = 3 };
    unsigned char *data = calloc(200000, 1);
    size_t n = 0;
    state s = {json_object(), data, 0, data};
    const float one = 1;
    const struct file f = {.name = "of units of one degree"};
#define ADD(name, dtype, width, ...)                                                                               \
    do {                                                                                                           \
        const size_t shape[] = {__VA_ARGS__}, rank = sizeof shape / sizeof *shape;                                 \
        const size_t bytes = (width)*shape[0] * (rank > 1 ? shape[rank - 1] : 1);                                  \
        json_t *entry = json_pack("{s:s, s:[], s:[I, I]}", "dtype", dtype, "shape", "data_offsets", (json_int_t)n, \
                                  (json_int_t)(n + bytes));                                                        \
        for (size_t i = 0; i < rank; i++)                                                                          \
            json_array_append_new(json_object_get(entry, "shape"), json_integer((json_int_t)shape[i]));            \
        json_object_set_new(s.header, name, entry);                                                                \
        n += bytes;                                                                                                \
    } while (0)
    ADD("base.loc", "F32", 4, D);
    for (size_t i = 0; i < D; i++)
        memcpy(data + n + 4 * i, &one, sizeof one);
    ADD("base.scale", "F32", 4, D);
    for (size_t i = 0; i < D; i++)
        data[n + i] = (unsigned char)i;
    ADD("transform.order", "U8", 1, D);
    for (size_t l = 0; l < LAYERS; l++) {
        const size_t out = l + 1 < LAYERS ? H : 2 * D, in = l ? H : D;
        char name[64];
        for (size_t k = 0; k < out; k++)
            for (size_t j = 0; j < in; j++)
                data[n + k * in + j] = l == 0 ? j == 0 : l + 1 < LAYERS || k >= 2;
        snprintf(name, sizeof name, "transform.hyper.%zu.mask", 2 * l);
        ADD(name, "BOOL", 1, out, in);
        snprintf(name, sizeof name, "transform.hyper.%zu.weight", 2 * l);
        ADD(name, "F32", 4, out, in);
        snprintf(name, sizeof name, "transform.hyper.%zu.bias", 2 * l);
        ADD(name, "F32", 4, out);
    }
    cr_assert_leq(n, 200000);
    s.n_data = n;
    state_write(&s);
    alloc_peak();
    expect_refused(&f, "evenly divided degrees");
    cr_assert_lt(alloc_peak(), 100 * n, "%zu bytes for a file of %zu", alloc_peak(), n);
    state_free(&s);
}

/* Whatever a file has, it is refused or gives a model whose size the file's bounds. */
static void import_anything(const struct file *f, size_t n_bytes)
{
    const size_t before = alloc_live();
    nf_model *m = nf_import(changed_path(), &f->options);
    if (m)
        cr_assert_leq(nf_model_shape(m)->n_params, 2 * NF_IMPORT_MOST_NUMBERS * (n_bytes + 64));
    nf_model_free(m);
    cr_assert_eq(alloc_live(), before, "%s", f->name);
}

Test(import, truncated_files, .init = begin, .fini = temp_teardown)
{
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k++) {
        size_t n;
        unsigned char *bytes = file_read(path_of(path, &files[k], "safetensors"), &n);
        file_write(changed_path(), bytes, n);
        for (size_t i = (n - 1) / 50 * 50 + 50; i-- > 0;) {
            i -= i % 50;
            cr_assert_eq(truncate(changed_path(), (off_t)i), 0);
            cr_assert_null(nf_import(changed_path(), &files[k].options), "%s: %zu bytes", files[k].name, i);
            cr_assert_eq(nf_error_status(), NF_EFORMAT, "%s: %zu bytes: %s", files[k].name, i, nf_error_message());
        }
        free(bytes);
    }
}

static void put_byte(FILE *file, size_t at, int byte)
{
    cr_assert_eq(fseek(file, (long)at, SEEK_SET), 0);
    cr_assert(fputc(byte, file) != EOF && fflush(file) == 0);
}

Test(import, changed_bytes, .init = begin, .fini = temp_teardown)
{
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k++) {
        size_t n;
        unsigned char *bytes = file_read(path_of(path, &files[k], "safetensors"), &n);
        file_write(changed_path(), bytes, n);
        FILE *file = fopen(changed_path(), "r+b");
        cr_assert_not_null(file);
        for (size_t i = k % STRIDE; i < n; i += STRIDE) {
            put_byte(file, i, bytes[i] ^ 1 << i % 8);
            import_anything(&files[k], n);
            put_byte(file, i, bytes[i]);
        }
        fclose(file);
        free(bytes);
    }
}

Test(import, allocations_fail)
{
    static void (*const fail[])(size_t) = {fail_alloc_after, fail_alloc_once};
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k += 3)
        for (size_t way = 0; way < 2; way++)
            for (size_t i = 0;; i += 1 + i / 40) {
                const size_t before = alloc_live();
                fail[way](i);
                nf_model *m = nf_import(path_of(path, &files[k], "safetensors"), &files[k].options);
                const bool failed = fail_alloc_off();
                cr_assert(!failed || (!m && nf_error_status() == NF_ENOMEM), "%s: %zu: %s", files[k].name, i,
                          nf_error_message());
                nf_model_free(m);
                cr_assert_eq(alloc_live(), before);
                if (!failed)
                    break;
            }
}

static void expect_options(const char *name, nf_import_options options, nf_status status, const char *words)
{
    char path[PATH];
    const struct file f = {.name = name};
    expect_none(nf_import(path_of(path, &f, "safetensors"), &options), status, words);
}

Test(import, options)
{
    expect_options("zuko-maf", (nf_import_options){.tail_bound = -2}, NF_EARG, "tail_bound");
    expect_options("zuko-maf", (nf_import_options){.min_slope = 1.5}, NF_EARG, "min_slope");
    expect_options("zuko-maf", (nf_import_options){.lipschitz = 1}, NF_EARG, "lipschitz");
    expect_options("zuko-maf", (nf_import_options){.package = (nf_import_package)7}, NF_EARG, "package");
    expect_options("zuko-maf", (nf_import_options){.activation = NF_LIPSWISH}, NF_EARG, "activation");
    expect_options("zuko-maf", (nf_import_options){.family = NF_IMPORT_IAF}, NF_EFORMAT, "not of the family");
    expect_options("zuko-maf", (nf_import_options){.family = NF_IMPORT_NSF}, NF_EFORMAT, "not of the family");
    expect_options("zuko-maf", (nf_import_options){.package = NF_IMPORT_NFLOWS}, NF_EUNSUPPORTED, "'_transform....'");
    expect_options("zuko-nsf", (nf_import_options){0}, NF_EUNSUPPORTED, "NF_IMPORT_NSF");
    expect_options("nflows-nsf", (nf_import_options){0}, NF_EUNSUPPORTED, "NF_IMPORT_NSF");
    expect_options("nflows-maf_residual", (nf_import_options){.activation = NF_TANH}, NF_EUNSUPPORTED, "need ReLU");
    expect_options("normflows-realnvp", (nf_import_options){0}, NF_EFORMAT, "`n_flows`");
    expect_options("normflows-realnvp", (nf_import_options){.n_flows = 2}, NF_EFORMAT, "`n_flows`");
    expect_options("normflows-glow", (nf_import_options){0}, NF_EFORMAT, "`height`");
    expect_options("normflows-glow", (nf_import_options){.height = 6, .width = 4}, NF_EARG, "cannot be squeezed");
    expect_options("normflows-masked", (nf_import_options){.family = NF_IMPORT_MAF}, NF_EFORMAT, "coupling");
    expect_none(nf_import(NULL, NULL), NF_EARG, "`path` is NULL");
    expect_none(nf_import("tests/peers/import/none.safetensors", NULL), NF_EIO, "none.safetensors");
    expect_none(nf_import("tests/golden/affine.safetensors", NULL), NF_EFORMAT, "no flow of zuko, nflows or normflows");
}

/* A model from Python is a model like any other: it goes to a file and back. */
Test(import, saves_and_loads, .init = begin, .fini = temp_teardown)
{
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k++) {
        nf_model *m = nf_import(path_of(path, &files[k], "safetensors"), &files[k].options);
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert_eq(nf_save(m, changed_path()), NF_OK, "%s", nf_error_message());
        nf_model_free(m);
        m = nf_load(changed_path(), NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        json_t *file = peer_file(path_of(path, &files[k], "json"));
        compare_with_peer(files[k].name, files[k].slack, file, m);
        json_decref(file);
        nf_model_free(m);
    }
}
