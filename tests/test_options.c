/* Tables of options: every range of every table, requests for 0 and for none, defaults, fields of descriptions, and a
   stranger's own type with a table. */
#include "model/types.h"
#include "object/options.h"
#include "expect.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- every table of the library ---- */

/* Calls `visit` for each table of a type or a recipe; returns their number. */
static size_t for_tables(void (*visit)(const nf_option_table *t))
{
    const nf_option_table *t;
    nfi_kind kind;
    size_t n = 0;
    for (size_t i = 0; nfi_type_name(i, &kind); i++)
        if ((t = nfi_type_options(i))) {
            visit(t);
            n++;
        }
    for (size_t i = 0; (t = nfi_recipe_options(i)); i++, n++)
        visit(t);
    return n;
}

/* A struct of options with the defaults, and for the required ones a value in range. It is freed by the caller. */
static void *valid_options(const nf_option_table *t)
{
    void *q = calloc(1, t->size);
    for (size_t i = 0; i < t->n; i++) {
        const nf_option *o = &t->option[i];
        if (o->flags & NF_OPTION_REQUIRED && o->kind == NF_OPTION_SIZE)
            *(size_t *)nfi_option_at(o->offset, q) = (size_t)o->least + 1;
        if (o->flags & NF_OPTION_REQUIRED && o->kind == NF_OPTION_REAL)
            *(double *)nfi_option_at(o->offset, q) = 0.375;
    }
    return q;
}

/* Whether the table takes the value of an option; if not, the message must name function, option and value. */
static bool takes(const nf_option_table *t, const nf_option *o, double value)
{
    char *q = valid_options(t);
    size_t size = fabs(value) < 1e18 ? (size_t)(long)value : 0; /* read for counts alone */
    if (o->kind == NF_OPTION_SIZES || o->kind == NF_OPTION_REALS) {
        const void *list = o->kind == NF_OPTION_SIZES ? (const void *)&size : (const void *)&value;
        memcpy(q + o->offset, &list, sizeof list);
        *(size_t *)nfi_option_at(o->length, q) = 1;
    } else if (o->kind == NF_OPTION_CHOICE)
        memcpy(q + o->offset, &(int){(int)value}, sizeof(int));
    else if (o->kind == NF_OPTION_SIZE)
        memcpy(q + o->offset, &size, sizeof size);
    else
        memcpy(q + o->offset, &value, sizeof value);
    nf_error(NF_ENOCONV, "nobody has failed");
    const nf_status status = nf_options_settle(t, q, q);
    if (status != NF_OK) {
        char words[2][64];
        snprintf(words[0], sizeof words[0], "%s: ", t->function);
        snprintf(words[1], sizeof words[1], "%g", value);
        cr_assert(status == NF_EARG && strstr(nf_error_message(), words[0]) == nf_error_message() &&
                      strstr(nf_error_message(), o->name) && strstr(nf_error_message(), words[1]),
                  "%s, %s = %g: %s", t->function, o->name, value, nf_error_message());
    }
    free(q);
    return status == NF_OK;
}

static size_t n_refused;
static void refuse(const nf_option_table *t, const nf_option *o, double value)
{
    cr_expect_not(takes(t, o, value), "%s: %s = %g was taken", t->function, o->name, value);
    n_refused++;
}
static void take(const nf_option_table *t, const nf_option *o, double value)
{
    cr_expect(takes(t, o, value), "%s: %s = %g: %s", t->function, o->name, value, nf_error_message());
}

static void check_reals(const nf_option_table *t, const nf_option *o)
{
    const double least = o->least, most = o->most > 0 || least < 0 ? o->most : HUGE_VAL;
    const bool asks = o->kind == NF_OPTION_REAL && nfi_option_has_default(t, o) && least == 0 &&
                      !(o->flags & NF_OPTION_ABOVE); /* for 0, by a negative number */
    refuse(t, o, (double)NAN);
    refuse(t, o, -HUGE_VAL);
    refuse(t, o, HUGE_VAL);
    if (least > -1e300) {
        (asks ? take : refuse)(t, o, -1.5);
        (asks ? take : refuse)(t, o, -1e-9);
        take(t, o, nextafter(least, HUGE_VAL));
    }
    if (least > 0) { /* 0 itself is a request */
        refuse(t, o, nextafter(least, 0));
        (o->flags & NF_OPTION_ABOVE ? refuse : take)(t, o, least);
    }
    if (most < HUGE_VAL && least > -1e300) {
        refuse(t, o, nextafter(most, HUGE_VAL));
        (o->flags & NF_OPTION_BELOW ? refuse : take)(t, o, most);
        take(t, o, nextafter(most, 0));
    }
}

/* An array without its length is refused, whatever the default; NF_NONE asks for none, and the array is not kept. */
static void check_lengths(const nf_option_table *t, const nf_option *o)
{
    static const double items[] = {7, 7};
    const void *array = items;
    char words[200];
    for (size_t k = 0; k < 2; k++) {
        char *q = calloc(1, t->size);
        const size_t n = k ? NF_NONE : 0;
        for (size_t i = 0; i < t->n; i++) /* what is required and has no default */
            if (t->option[i].flags & NF_OPTION_REQUIRED && t->option[i].kind == NF_OPTION_SIZE)
                memcpy(q + t->option[i].offset, &(size_t){2}, sizeof(size_t));
        memcpy(q + o->offset, &array, sizeof array);
        memcpy(q + o->length, &n, sizeof n);
        const nf_status status = nf_options_settle(t, q, q);
        snprintf(words, sizeof words, "%s: `%s` is given, but n_%s is 0", t->function, o->name, o->name);
        if (k == 0)
            expect(status, NF_EARG, words);
        else
            cr_assert(status == NF_OK && !*(void **)(q + o->offset) && *(size_t *)(q + o->length) == 0, "%s: %s", words,
                      nf_error_message());
        free(q);
    }
}

static void check_ranges(const nf_option_table *t)
{
    cr_assert(t->abi == sizeof *t && t->n > 0 && t->function && t->size, "%s", t->function);
    for (size_t i = 0; i < t->n; i++) {
        const nf_option *o = &t->option[i];
        cr_assert(o->name && o->help && o->offset < t->size, "%s: option %zu", t->function, i);
        switch (o->kind) {
        case NF_OPTION_REAL:
        case NF_OPTION_REALS:
            check_reals(t, o);
            break;
        case NF_OPTION_SIZE:
        case NF_OPTION_SIZES:
            take(t, o, o->least + 1);
            for (double v = 1; v < o->least; v++)
                refuse(t, o, v);
            if (o->kind == NF_OPTION_SIZES)
                refuse(t, o, 0); /* a hidden layer without units; elsewhere 0 is a request */
            if (o->kind == NF_OPTION_SIZES)
                check_lengths(t, o);
            if (o->most > 0)
                refuse(t, o, o->most + 1);
            break;
        case NF_OPTION_CHOICE:
            for (size_t k = 1; k < o->choices->n; k++)
                (o->choices->names[k] ? take : refuse)(t, o, (double)k);
            refuse(t, o, (double)o->choices->n);
            refuse(t, o, -3);
            break;
        case NF_OPTION_INTEGER:
        case NF_OPTION_BOOL:
            break;
        }
    }
}

Test(options, every_range_of_every_table)
{
    cr_assert_geq(for_tables(check_ranges), 27);
    cr_assert_geq(n_refused, 200);
}

/* Settled defaults are in range, and stay what they are. */
static void check_defaults(const nf_option_table *t)
{
    char *q = valid_options(t), *again = malloc(t->size);
    cr_assert_eq(nf_options_settle(t, q, q), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_options_settle(t, q, again), NF_OK, "%s", nf_error_message());
    cr_assert_arr_eq(q, again, t->size, "%s", t->function);
    for (size_t i = 0; i < t->n; i++) {
        const nf_option *o = &t->option[i];
        if (nfi_option_has_default(t, o) && o->kind != NF_OPTION_SIZES && o->kind != NF_OPTION_REALS)
            cr_expect(memcmp(q + o->offset, (const char *)t->defaults + o->offset, sizeof(size_t)) == 0, "%s: %s",
                      t->function, o->name);
    }
    free(q);
    free(again);
}

Test(options, defaults_are_in_range)
{
    for_tables(check_defaults);
}

/* ---- the rules, on a table with an option of every kind ---- */

typedef enum colour { DEFAULT_COLOUR, RED, GREEN } colour;
typedef struct all_kinds {
    size_t count, free_count;
    uint64_t seed;
    double scale, positive, shift;
    bool flag;
    colour colour;
    const size_t *widths;
    size_t n_widths;
    const double *points;
    size_t n_points;
} all_kinds;

static const char *const colour_names[] = {[RED] = "red", [GREEN] = "green"};
static const nf_choices colours = NFI_CHOICES("colour", colour_names);
static const nf_option rows[] = {
    {NF_OPTION(NF_OPTION_SIZE, all_kinds, count), .most = 20, .help = "a"},
    {NF_OPTION(NF_OPTION_SIZE, all_kinds, free_count), .help = "b"},
    {NF_OPTION(NF_OPTION_INTEGER, all_kinds, seed), .help = "c"},
    {NF_OPTION(NF_OPTION_REAL, all_kinds, scale), .most = 2, .former = "size", .help = "d"},
    {NF_OPTION(NF_OPTION_REAL, all_kinds, positive), .flags = NF_OPTION_ABOVE, .help = "e"},
    {NF_OPTION(NF_OPTION_REAL, all_kinds, shift), .least = -5, .most = 5, .help = "f"},
    {NF_OPTION(NF_OPTION_BOOL, all_kinds, flag), .help = "g"},
    {NF_OPTION(NF_OPTION_CHOICE, all_kinds, colour), .choices = &colours, .help = "h"},
    {NF_OPTION_LIST(NF_OPTION_SIZES, all_kinds, widths), .least = 1, .help = "i"},
    {NF_OPTION_LIST(NF_OPTION_REALS, all_kinds, points), .least = -1, .most = 1, .help = "j"},
};
static const size_t some_widths[] = {7, 3};
static const all_kinds defaults = {
    .count = 4, .seed = 19, .scale = 0.75, .positive = 2.5, .colour = GREEN, .widths = some_widths, .n_widths = 2};
static const nf_option_table table = NF_OPTION_TABLE("my_layer", all_kinds, rows, &defaults);

Test(options, zero_means_the_default)
{
    all_kinds q;
    cr_assert_eq(nf_options_settle(&table, NULL, &q), NF_OK);
    cr_assert(q.count == 4 && q.free_count == 0 && q.seed == 19 && q.colour == GREEN && !q.flag);
    cr_assert(q.scale == 0.75 && q.positive == 2.5 && q.shift == 0);
    cr_assert(q.widths == some_widths && q.n_widths == 2 && q.n_points == 0);
    const double points[] = {-1, 0.5};
    const all_kinds given = {.count = 20,
                             .free_count = 3,
                             .seed = UINT64_MAX,
                             .scale = 2,
                             .positive = 1e-9,
                             .shift = -1,
                             .flag = true,
                             .colour = RED,
                             .widths = some_widths,
                             .n_widths = 1,
                             .points = points,
                             .n_points = 2};
    cr_assert_eq(nf_options_settle(&table, &given, &q), NF_OK, "%s", nf_error_message());
    cr_assert(q.count == 20 && q.free_count == 3 && q.seed == UINT64_MAX && q.colour == RED && q.flag);
    cr_assert(q.scale == 2 && q.positive == 1e-9 && q.shift == -1); /* NF_ZERO is a number where negative ones are */
    cr_assert(q.widths == some_widths && q.n_widths == 1 && q.points == points && q.n_points == 2);
}

Test(options, zero_can_be_asked_for)
{
    all_kinds q;
    const all_kinds none = {
        .count = NF_NONE, .free_count = NF_NONE, .scale = NF_ZERO, .n_widths = NF_NONE, .n_points = NF_NONE};
    cr_assert_eq(nf_options_settle(&table, &none, &q), NF_OK, "%s", nf_error_message());
    cr_assert(q.count == 0 && q.free_count == 0 && q.scale == 0 && q.n_widths == 0 && q.n_points == 0);
    cr_assert_eq(nf_options_settle(&table, &(all_kinds){.scale = -0.1}, &q), NF_OK);
    cr_assert_eq(q.scale, 0);
    expect(nf_options_settle(&table, &(all_kinds){.positive = NF_ZERO}, &q), NF_EARG,
           "my_layer: `positive` is -1, but must be above 0");
}

Test(options, messages)
{
    all_kinds q;
    const double points[] = {0.5, -1.25};
    expect(nf_options_settle(&table, &(all_kinds){.count = 21}, &q), NF_EARG,
           "my_layer: `count` is 21, but must be in [0, 20]");
    expect(nf_options_settle(&table, &(all_kinds){.shift = 5.5}, &q), NF_EARG,
           "my_layer: `shift` is 5.5, but must be in [-5, 5]");
    expect(nf_options_settle(&table, &(all_kinds){.positive = INFINITY}, &q), NF_EARG,
           "my_layer: `positive` is not finite: it is inf");
    expect(nf_options_settle(&table, &(all_kinds){.colour = (colour)3}, &q), NF_EARG,
           "my_layer: `colour` is 3: unknown colour 3");
    expect(nf_options_settle(&table, &(all_kinds){.n_widths = 3}, &q), NF_EARG,
           "my_layer: `widths` is NULL, but n_widths is 3");
    expect(nf_options_settle(&table, &(all_kinds){.widths = (size_t[]){2, 0}, .n_widths = 2}, &q), NF_EARG,
           "my_layer: widths[1] is 0, but must be at least 1");
    expect(nf_options_settle(&table, &(all_kinds){.points = points, .n_points = 2}, &q), NF_EARG,
           "my_layer: points[1] is -1.25, but must be in [-1, 1]");
}

Test(options, bad_calls)
{
    all_kinds q;
    nf_option_table other = table;
    expect(nf_options_settle(NULL, NULL, &q), NF_EARG, "nf_options_settle: `table` is NULL");
    expect(nf_options_settle(&table, NULL, NULL), NF_EARG, "`settled` is NULL");
#ifdef NFI_JANSSON
    expect(nf_options_write(NULL, &table, &q), NF_EARG, "nf_options_write: `w` is NULL");
    cr_assert_null(nf_options_read(NULL, &table));
    expect(nf_error_status(), NF_EARG, "nf_options_read: `r` is NULL");
#else
    expect(nf_options_write(NULL, &table, &q), NF_EUNSUPPORTED, "nf_options_write: this build has no Jansson");
    cr_assert_null(nf_options_read(NULL, &table));
    expect(nf_error_status(), NF_EUNSUPPORTED, "nf_options_read: this build has no Jansson");
#endif
    other.abi = 8;
    expect(nf_options_settle(&other, NULL, &q), NF_EARG, "table->abi` is 8");
    const nf_option odd = {.name = "odd", .kind = (nf_option_kind)99};
    other = (nf_option_table){.abi = sizeof other, .function = "f", .size = sizeof q, .n = 1, .option = &odd};
    expect(nf_options_settle(&other, NULL, &q), NF_EARG, "f: the option `odd` is of no kind");
}

#ifdef NFI_JANSSON
/* ---- a stranger's type: no describe hook, a rebuild hook of one call ---- */

typedef struct mine {
    all_kinds options;
    size_t more;
} mine;

static nf_status copy(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                      double *log_det, void **saved)
{
    (void)d, (void)log_det, (void)saved;
    memcpy(y, x, nf_object_shape(o)->dim_in * p->ld * sizeof *x);
    return NF_OK;
}

static nf_status copy_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    memcpy(gx, gy, nf_object_shape(o)->dim_in * p->ld * sizeof *gx);
    return NF_OK;
}

static all_kinds last; /* what the last constructor settled */
static size_t last_width;
static const nf_flow_type my_type;
static nf_flow *my_layer(size_t dim, const all_kinds *options)
{
    mine *self = calloc(1, sizeof *self);
    if (nf_options_settle(&table, options, &self->options) != NF_OK) {
        free(self);
        return NULL;
    }
    last = self->options;
    last_width = last.n_widths ? last.widths[0] : 0;
    static size_t width[2]; /* the lists are the caller's */
    for (size_t i = 0; i < last.n_widths && i < 2; i++)
        width[i] = last.widths[i];
    self->options.widths = width;
    self->options.points = last.n_points ? (const double[]){0} : NULL;
    self->options.n_points = 0;
    return nf_flow_new(&my_type, &(nf_shape){.dim_in = dim, .dim_out = dim}, self, NULL, 0);
}

static nf_flow *my_rebuild(nf_reader *r)
{
    const all_kinds *q = nf_options_read(r, &table);
    return q ? my_layer(nf_read_dim_in(r), q) : NULL;
}

static const nf_flow_type my_type = {.abi = sizeof my_type,
                                     .part = {.name = "mine", .destroy = free},
                                     .apply = copy,
                                     .vjp = copy_vjp,
                                     .rebuild = my_rebuild,
                                     .options = &table};

static nf_object *read_mine(const char *fields)
{
    const nf_types types = {.flows = (const nf_flow_type *const[]){&my_type}, .n_flows = 1};
    char text[400];
    snprintf(text, sizeof text, "{\"kind\": \"flow\", \"type\": \"mine\", \"dim_in\": 2, \"fields\": {%s}}", fields);
    return nf_rebuild(text, &types);
}

Test(options, of_a_strangers_type_are_fields)
{
    nf_object *o = nf_flow_object(my_layer(2, &(all_kinds){.count = NF_NONE, .scale = NF_ZERO, .colour = RED}));
    char *text = nf_describe(o);
    cr_assert_not_null(text, "%s", nf_error_message());
    const char *const fields[] = {"\"count\": 0",      "\"free_count\": 0", "\"seed\": 19",    "\"scale\": 0.0",
                                  "\"positive\": 2.5", "\"shift\": 0.0",    "\"flag\": false", "\"colour\": \"red\""};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        cr_expect_not_null(strstr(text, fields[i]), "%s lacks %s", text, fields[i]);
    last = (all_kinds){.count = 99};
    const nf_types types = {.flows = (const nf_flow_type *const[]){&my_type}, .n_flows = 1};
    nf_object *again = nf_rebuild(text, &types);
    cr_assert_not_null(again, "%s", nf_error_message());
    cr_assert(last.count == 0 && last.scale == 0 && last.colour == RED && last.n_widths == 2 && last_width == 7);
    nf_text_free(text);
    nf_object_free(o);
    nf_object_free(again);
}

/* In a field 0 is 0, what is left out is the default, and a former name is as good as the present one. */
Test(options, fields_are_values)
{
    nf_object_free(read_mine(""));
    cr_assert(last.count == 4 && last.scale == 0.75 && last.n_widths == 2 && last.seed == 19 && last.colour == GREEN);
    nf_object_free(read_mine("\"count\": 0, \"scale\": 0, \"widths\": [], \"flag\": true"));
    cr_assert(last.count == 0 && last.scale == 0 && last.n_widths == 0 && last.flag);
    nf_object_free(read_mine("\"size\": 1.5, \"widths\": [5], \"points\": [0.5, -1]"));
    cr_assert(last.scale == 1.5 && last.n_widths == 1 && last_width == 5 && last.n_points == 2);
    const struct {
        const char *fields, *words;
    } bad[] = {
        {"\"size\": 1.5, \"scale\": 1", "the field 'size' is unknown"},
        {"\"scal\": 1", "the field 'scal' is unknown"},
        {"\"positive\": 0", "my_layer: `positive` is 0, but must be above 0"},
        {"\"scale\": -1", "my_layer: `scale` is -1, but must be in [0, 2]"},
        {"\"count\": 21", "my_layer: `count` is 21"},
        {"\"free_count\": \"18446744073709551615\"", "`free_count` is too large"},
        {"\"colour\": \"blue\"", "'blue'; known are: red, green"},
        {"\"colour\": \"\"", "known are: red, green"},
        {"\"widths\": [3, 0]", "widths[1] is 0"},
        {"\"widths\": 3", "is not an array"},
        {"\"points\": [2]", "points[0] is 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_null(read_mine(bad[i].fields), "%s", bad[i].fields);
        expect(nf_error_status(), NF_EFORMAT, bad[i].words);
    }
}

/* ---- files of earlier versions, and fields that only new ones have ---- */

static nf_object *rebuilt(const char *json)
{
    nf_object *o = nf_rebuild(json, NULL);
    cr_assert_not_null(o, "%s", nf_error_message());
    return o;
}

static void same_as(nf_object *o, const char *json)
{
    nf_object *other = rebuilt(json);
    char *a = nf_describe(o), *b = nf_describe(other);
    cr_assert_str_eq(a, b);
    nf_text_free(a);
    nf_text_free(b);
    nf_object_free(o);
    nf_object_free(other);
}

#define FLOW(type, fields) "{\"kind\": \"flow\", \"type\": \"" type "\", \"dim_in\": 3, \"fields\": {" fields "}}"
#define NET(type, fields) \
    "{\"kind\": \"net\", \"type\": \"" type "\", \"dim_in\": 3, \"dim_out\": 2, \"fields\": {" fields "}}"

Test(options, batch_norms_decay_was_its_momentum)
{
    same_as(nf_flow_object(nf_batch_norm(3, &(nf_batch_norm_options){.decay = 0.83})),
            FLOW("batch_norm", "\"momentum\": 0.83"));
    same_as(nf_flow_object(nf_batch_norm(3, &(nf_batch_norm_options){.decay = NF_ZERO})),
            FLOW("batch_norm", "\"decay\": 0"));
    cr_assert_null(nf_rebuild(FLOW("batch_norm", "\"momentum\": 1.5"), NULL));
    expect(nf_error_status(), NF_EFORMAT, "nf_batch_norm: `decay` is 1.5, but must be in [0, 1)");
}

Test(options, fields_of_zero_that_the_constructors_refuse)
{
    static const char *const bad[][2] = {
        {FLOW("spline", "\"bins\": 0"), "nf_spline: `bins` is 0, but must be at least 1"},
        {FLOW("spline", "\"box\": 0"), "nf_spline: `box` is 0"},
        {FLOW("householder", "\"n\": 0"), "nf_householder: `n` is 0"},
        {NET("maxout_mlp", "\"window\": 0"), "nf_maxout_mlp: `window` is 0"},
        {NET("residual_mlp", "\"n_blocks\": 0"), "nf_residual_mlp: `n_blocks` is 0"},
        {NET("residual_mlp", "\"width\": 0"), "nf_residual_mlp: `width` is 0"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_null(nf_rebuild(bad[i][0], NULL), "%s", bad[i][0]);
        expect(nf_error_status(), NF_EFORMAT, bad[i][1]);
    }
}

Test(options, scales_of_zero_come_back)
{
    same_as(nf_net_object(nf_mlp(3, 2, 0, &(nf_mlp_options){.last_scale = NF_ZERO})), NET("mlp", "\"last_scale\": 0"));
    same_as(nf_net_object(
                nf_residual_mlp(3, 2, 0, &(nf_residual_mlp_options){.block_scale = NF_ZERO, .last_scale = NF_ZERO})),
            NET("residual_mlp", "\"block_scale\": 0, \"last_scale\": 0"));
    same_as(nf_net_object(nf_mlp(3, 2, 0, &(nf_mlp_options){.output = NF_RELU})), NET("mlp", "\"output\": \"relu\""));
    same_as(nf_net_object(nf_mlp(3, 2, 0, &(nf_mlp_options){.output = NF_ACTIVATION_DEFAULT})),
            NET("mlp", "\"output\": \"identity\""));
}

/* Whether the description of a flow, which is freed, has these words. */
static bool says(nf_flow *f, const char *words)
{
    cr_assert_not_null(f, "%s", nf_error_message());
    char *text = nf_describe(nf_flow_object(f));
    const bool found = strstr(text, words);
    nf_text_free(text);
    nf_flow_free(f);
    return found;
}

Test(options, recipes_without_hidden_layers_or_blocks)
{
    const nf_recipe_options affine = {.n_layers = 2, .n_hidden = NF_NONE};
    const nf_recipe_options plain = {.n_layers = 2, .n_blocks = NF_NONE, .hidden = (size_t[]){9}, .n_hidden = 1};
    cr_assert(says(nf_maf(3, &affine), "\"hidden\": []") && says(nf_realnvp(3, &affine), "\"hidden\": []"));
    cr_assert(says(nf_nsf_coupling(3, &affine), "\"type\": \"mlp\""));
    cr_assert(says(nf_nsf_coupling(3, &affine), "\"hidden\": []"));
    cr_assert(says(nf_nsf_coupling(3, &plain), "\"type\": \"mlp\""));
    cr_assert(says(nf_nsf_coupling(3, &(nf_recipe_options){.n_layers = 2}), "\"type\": \"residual_mlp\""));
    cr_assert(says(nf_nsf_autoregressive(3, &plain), "\"n_blocks\": 0"));
    cr_assert(says(nf_nsf_autoregressive(3, &(nf_recipe_options){.n_layers = 2}), "\"n_blocks\": 2"));
    cr_assert(says(nf_maf(3, &(nf_recipe_options){.n_layers = 1, .last_scale = NF_ZERO}), "\"last_scale\": 0.0"));
    cr_assert(says(nf_iaf(3, &(nf_recipe_options){.n_layers = 1}), "\"activation\": \"elu\""));
    cr_assert(says(nf_iaf(3, &(nf_recipe_options){.n_layers = 1, .activation = NF_RELU}), "\"activation\": \"relu\""));
    cr_assert_null(nf_nsf_coupling(3, &(nf_recipe_options){.n_blocks = 2, .n_hidden = NF_NONE}));
    expect(nf_error_status(), NF_EARG, "nf_nsf_coupling: `n_hidden` is 0, but residual blocks");
    cr_assert_null(nf_maf(3, &(nf_recipe_options){.n_layers = NF_NONE}));
    expect(nf_error_status(), NF_EARG, "nf_maf: `n_layers` is 0, but must be at least 1");
}
#endif

/* Arrays of which the length was forgotten: the recipe's own nets have a million parameters, a net none of the layers.
 */
Test(options, arrays_without_lengths)
{
    const size_t hidden[] = {32, 32};
    const nf_real rows[] = {1, 2};
    cr_assert_null(nf_maf(2, &(nf_recipe_options){.hidden = hidden}));
    expect(nf_error_status(), NF_EARG, "nf_maf: `hidden` is given, but n_hidden is 0");
    cr_assert_null(nf_nsf_coupling(2, &(nf_recipe_options){.hidden = hidden}));
    expect(nf_error_status(), NF_EARG, "nf_nsf_coupling: `hidden` is given, but n_hidden is 0");
    cr_assert_null(nf_mlp(2, 2, 0, &(nf_mlp_options){.hidden = hidden}));
    expect(nf_error_status(), NF_EARG, "nf_mlp: `hidden` is given, but n_hidden is 0");
    nf_net *none = nf_mlp(2, 2, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = NF_NONE});
    cr_assert_eq(nf_object_shape(nf_net_object(none))->n_params, 6);
    nf_net_free(none);
    cr_assert_null(nf_model_of_flow(nf_actnorm(2), &(nf_model_options){.init_x = rows}));
    expect(nf_error_status(), NF_EARG, "nf_model_of_flow: `options->init_x` is given, but `n_init`");
    cr_assert_null(nf_model_of_flow(nf_actnorm(2), &(nf_model_options){.init_ctx = rows}));
    expect(nf_error_status(), NF_EARG, "nf_model_of_flow: `options->init_ctx` is given, but `n_init`");
    nf_model *m = nf_model_of_flow(nf_actnorm(2), NULL);
    expect(nf_model_init(m, 1, 0, rows, NULL), NF_EARG, "nf_model_init: `x` is given, but `n`");
    expect(nf_model_init(m, 1, 0, NULL, rows), NF_EARG, "nf_model_init: `ctx` is given, but `n`");
    cr_assert_eq(nf_model_init(m, 1, 0, NULL, NULL), NF_OK);
    nf_model_free(m);
}

/* ReLU units of a last layer, against the formula. */
Test(options, a_last_layer_of_relus)
{
    nf_model *m = nf_model_of_net(nf_mlp(1, 1, 0, &(nf_mlp_options){.output = NF_RELU}), NULL);
    const nf_real x[] = {2, -1}, theta[] = {NF_R(0.75), NF_R(0.25)};
    nf_real y[2];
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_eq(nf_evaluate(m, NULL, NULL, 2, x, NULL, y), NF_OK);
    cr_assert(y[0] == NF_R(1.75) && y[1] == 0, "%g %g", (double)y[0], (double)y[1]);
    nf_model_free(m);
}

/* At x = 0 the log-det of a lower bound, the sum of x, is 0. */
Test(options, a_flow_checked_at_zero)
{
    nf_model *m = nf_model_of_flow(nf_lower(2, 1.5), NULL);
    nf_check_report r;
    cr_assert_eq(nf_check_flow(m, &(nf_check_options){.scale = NF_ZERO}, &r), NF_OK, "%s", nf_error_message());
    cr_assert(r.log_det_min[0] == 0 && r.log_det_max[0] == 0);
    cr_assert_eq(nf_check_flow(m, NULL, &r), NF_OK);
    cr_assert(r.log_det_min[0] < 0 && r.log_det_max[0] > 0);
    nf_model_free(m);
}

Test(options, memory_is_given_back)
{
    const size_t live = alloc_live();
    nf_net *net = nf_masked_net(3, 2, 0, &(nf_masked_options){.hidden = (size_t[]){4, 6}, .n_hidden = 2});
    cr_assert_not_null(net);
    nf_net_free(net);
    cr_assert_null(nf_masked_net(3, 2, 0, &(nf_masked_options){.dropout = 2}));
    cr_assert_eq(alloc_live(), live);
}
