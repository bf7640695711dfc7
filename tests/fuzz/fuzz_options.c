/* Tables of options and the fields of a user's type: the input is the JSON object of the fields. What is accepted must
   be in range, and describe itself. */
#include "fuzz.h"

enum { MOST_ITEMS = 16 };

typedef struct every_options {
    size_t count, n_sizes, n_reals;
    uint64_t seed;
    double real, open;
    bool flag;
    nf_activation unit;
    const size_t *sizes;
    const double *reals;
} every_options;

static const char *const unit_names[] = {NULL, "relu", "elu", "tanh"};
static const nf_choices units = {.what = "unit", .n = 4, .names = unit_names};
static const nf_option options[] = {
    {NF_OPTION(NF_OPTION_SIZE, every_options, count), .least = 2, .most = 9, .former = "number"},
    {NF_OPTION(NF_OPTION_INTEGER, every_options, seed)},
    {NF_OPTION(NF_OPTION_REAL, every_options, real), .least = -1e300, .most = 1e300},
    {NF_OPTION(NF_OPTION_REAL, every_options, open), .most = 1, .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW},
    {NF_OPTION(NF_OPTION_BOOL, every_options, flag)},
    {NF_OPTION(NF_OPTION_CHOICE, every_options, unit), .choices = &units},
    {NF_OPTION_LIST(NF_OPTION_SIZES, every_options, sizes), .least = 1, .most = 99},
    {NF_OPTION_LIST(NF_OPTION_REALS, every_options, reals), .most = 7}};
static const every_options defaults = {.count = 3, .real = 2.385, .open = 0.25, .unit = (nf_activation)1};
static const nf_option_table table = NF_OPTION_TABLE("every", every_options, options, &defaults);

typedef struct every {
    every_options settled; /* at the beginning: nf_options_write finds it there */
    size_t sizes[MOST_ITEMS];
    double reals[MOST_ITEMS];
} every;

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)o, (void)d, (void)p, (void)x, (void)y, (void)log_det, (void)saved;
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)d, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)g_log_det, (void)gx, (void)g;
    return NF_OK;
}

/* Reads a field in every way there is; at most one of them is the right one. */
static void read_in_every_way(nf_reader *r, const char *name)
{
    uint64_t integer;
    bool flag;
    double number, numbers[MOST_ITEMS];
    size_t choice, list[MOST_ITEMS];
    const size_t n = nf_read_length(r, name), few = n < MOST_ITEMS ? n : MOST_ITEMS;
    int good = nf_read_integer(r, name, &integer) == NF_OK;
    good += nf_read_bool(r, name, &flag) == NF_OK;
    good += nf_read_choice(r, name, 3, unit_names + 1, &choice) == NF_OK;
    good += nf_read_number(r, name, &number) == NF_OK;
    good += nf_read_choices(r, name, 3, unit_names + 1, few, list) == NF_OK;
    good += nf_read_integers(r, name, few, list) == NF_OK;
    good += nf_read_numbers(r, name, few, numbers) == NF_OK;
    FUZZ_MUST(good == 0 || nf_read_has(r, name), "a field is read that there is not");
}

static nf_flow *rebuild(nf_reader *r);
static const nf_flow_type type = {.part = {.name = "every", .destroy = free},
                                  .abi = sizeof(nf_flow_type),
                                  .apply = apply,
                                  .vjp = vjp,
                                  .rebuild = rebuild,
                                  .options = &table};

static nf_flow *rebuild(nf_reader *r)
{
    for (size_t i = 0; i < table.n; i++)
        read_in_every_way(r, options[i].name);
    const every_options *given = nf_options_read(r, &table);
    if (!given || given->n_sizes > MOST_ITEMS || given->n_reals > MOST_ITEMS)
        return NULL;
    every *e = calloc(1, sizeof *e);
    if (nf_options_settle(&table, given, &e->settled) != NF_OK) {
        free(e);
        return NULL;
    }
    const every_options *s = &e->settled;
    FUZZ_MUST(s->count >= 2 && s->count <= 9 && s->open > 0 && s->open < 1 && s->real >= -1e300 && s->real <= 1e300 &&
                  s->unit > 0 && s->unit < 4,
              "an option out of range");
    if (s->n_sizes)
        memcpy(e->sizes, s->sizes, s->n_sizes * sizeof *s->sizes);
    if (s->n_reals)
        memcpy(e->reals, s->reals, s->n_reals * sizeof *s->reals);
    e->settled.sizes = e->sizes;
    e->settled.reals = e->reals;
    return nf_flow_new(&type, &(nf_shape){.dim_in = nf_read_dim_in(r), .dim_out = nf_read_dim_in(r)}, e, NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const nf_types types = {.flows = (const nf_flow_type *const[]){&type}, .n_flows = 1};
    static const char around[] = "{\"kind\":\"flow\",\"type\":\"every\",\"dim_in\":2,\"fields\":%.*s}";
    char *text = malloc(size + sizeof around);
    sprintf(text, around, (int)size, (const char *)data);
    nf_object *o = nf_rebuild(text, &types);
    free(text);
    if (o)
        fuzz_describes_itself(o, &types);
    nf_object_free(o);
    return 0;
}
