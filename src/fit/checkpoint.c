/*
 * Checkpoints: one safetensors file. Its tensors are the arrays of a fit: theta, state, prep, best.theta,
 * best.state, slot.0 ... and average, as flat vectors in the library's precision. Its metadata are format
 * "nflow checkpoint", format_version "1", library_version, precision "double" or "float", architecture (as in model
 * files) and progress (a JSON object: counts, options, coefficients). Reals in the progress have 17 digits, so that
 * reading gives the same bits.
 *
 * The last tensor is a checksum: 64 bits of nfi_container_sum over everything before it, as four numbers of 16 bits.
 * Without it a fit could go on from damaged numbers and nobody would notice.
 */
#include "base/memory.h"
#include "fit/progress.h"
#include "model/description.h"
#include "io/safetensors.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { SUM_PARTS = 4, SUM_BITS = 16, TEXT = 256 };
static const nfi_format format = {.name = "nflow checkpoint", .version = "1", .what = "checkpoint"};
#ifdef NF_SINGLE
static const char precision[] = "float";
#else
static const char precision[] = "double";
#endif
static const nfi_slice checksum = {.name = "checksum", .count = SUM_PARTS, .rank = 1, .extents = {SUM_PARTS}};

/* ---- writing ---- */

static nf_status no_memory(const char *who)
{
    return nf_error(NF_ENOMEM, "%s: no memory for the header", who);
}

/* Adds a JSON value to the metadata, as a string that holds its text. Takes over the reference `value`. */
static nf_status add_text(json_t *metadata, const char *who, const char *key, json_t *value)
{
    char *text;
    size_t length;
    nf_status status = value ? nfi_json_text(value, JSON_COMPACT, 1, who, &text, &length) : nf_error_status();
    json_decref(value);
    if (status != NF_OK)
        return status;
    if (json_object_set_new(metadata, key, json_string(text)) != 0)
        status = no_memory(who);
    nfi_free(text);
    return status;
}

static nf_status add_metadata(const nf_fitter *f, const char *who, json_t *header)
{
    json_t *metadata = json_object(), *progress = json_object();
    int bad = json_object_set_new(metadata, "format", json_string(format.name));
    bad |= json_object_set_new(metadata, "format_version", json_string(format.version));
    bad |= json_object_set_new(metadata, "library_version", json_string(nf_version()));
    bad |= json_object_set_new(metadata, "precision", json_string(precision));
    nf_status status = bad || !progress ? no_memory(who) : nfi_progress_write(f, progress);
    if (status == NF_OK)
        status = add_text(metadata, who, "architecture", nfi_describe(f->m->o, who));
    if (status == NF_OK)
        status = add_text(metadata, who, "progress", json_incref(progress));
    if (status == NF_OK && json_object_set(header, "__metadata__", metadata) != 0)
        status = no_memory(who);
    json_decref(progress);
    json_decref(metadata);
    return status;
}

/* The fit's arrays. During a run those that are trained are the model's. */
static nfi_fit_arrays arrays_of(const nf_fitter *f)
{
    nfi_fit_arrays a = f->a;
    if (f->running) {
        a.theta = f->m->theta;
        a.state = f->m->state;
        a.prep = f->m->prep;
    }
    return a;
}

static nfi_slice slice_of(const nfi_fit_array *array)
{
    return (nfi_slice){.name = array->name, .count = array->n, .rank = 1, .extents = {array->n}};
}

/* Writes what follows the header: the arrays and the checksum. */
static nf_status write_numbers(nfi_container_writer *file, const nfi_fit_array *list, size_t n)
{
    nf_status status = NF_OK;
    for (size_t i = 0; i < n && status == NF_OK; i++)
        status = nfi_container_put(file, list[i].n, *list[i].at);
    nf_real sum[SUM_PARTS];
    for (size_t i = 0; i < SUM_PARTS; i++)
        sum[i] = (nf_real)(file->sum >> SUM_BITS * i & 0xffff);
    return status == NF_OK ? nfi_container_put(file, SUM_PARTS, sum) : status;
}

nf_status nfi_checkpoint_write(const nf_fitter *f, const char *path, const char *who)
{
    nfi_fit_arrays a = arrays_of(f);
    nfi_fit_array list[NFI_FIT_ARRAYS];
    const size_t n = nfi_fit_list(&a, &f->m->o->total, f->options.optimizer->n_slots, a.average, list);
    size_t n_data = 0;
    json_t *header = json_object();
    nf_status status = header ? add_metadata(f, who, header) : no_memory(who);
    for (size_t i = 0; i < n && status == NF_OK; i++) {
        const nfi_slice slice = slice_of(&list[i]);
        if (slice.count)
            status = nfi_header_add(header, who, &slice, &n_data);
    }
    if (status == NF_OK)
        status = nfi_header_add(header, who, &checksum, &n_data);
    nfi_container_writer file;
    if (status == NF_OK)
        status = nfi_container_begin(&file, who, path, header);
    if (status == NF_OK)
        status = nfi_container_finish(&file, write_numbers(&file, list, n));
    json_decref(header);
    return status;
}

/* ---- reading: whether it is a checkpoint of this fit ---- */

static nf_status check_sum(nfi_container *c, const char *who)
{
    nf_real part[SUM_PARTS];
    nf_status status = nfi_container_read_data(c, who);
    if (status == NF_OK)
        status = nfi_container_take(c, who, &checksum, part);
    if (status != NF_OK)
        return status;
    size_t begin = 0;
    for (size_t i = 0; i < c->n_tensors; i++)
        begin = strcmp(c->tensor[i].name, checksum.name) == 0 ? c->tensor[i].begin : begin;
    const uint64_t sum = nfi_container_sum(c, begin);
    for (size_t i = 0; i < SUM_PARTS; i++)
        if (!(part[i] == (nf_real)(sum >> SUM_BITS * i & 0xffff)))
            return nf_error(NF_EFORMAT, "%s: %s: damaged: the checksum is wrong", who, c->path);
    return NF_OK;
}

/* A value as text, cut off where it is too long. */
static void show(const json_t *value, char text[TEXT])
{
    size_t n = value ? json_dumpb(value, text, TEXT - 1, JSON_COMPACT | JSON_ENCODE_ANY) : 0;
    text[n < TEXT ? n : TEXT - 1] = '\0';
    if (!value)
        snprintf(text, TEXT, "missing");
}

/* The place where two descriptions first differ, such as "children[1].type", and what each of them has there. */
typedef struct difference {
    char place[TEXT], file[TEXT], fitter[TEXT];
} difference;

static bool differ(const json_t *a, const json_t *b, difference *d)
{
    if (json_equal(a, b))
        return false;
    const size_t length = strlen(d->place);
    if (json_is_object(a) && json_is_object(b)) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)a, key, value)
        {
            snprintf(d->place + length, TEXT - length, "%s%s", length ? "." : "", key);
            if (differ(value, json_object_get(b, key), d))
                return true;
            d->place[length] = '\0';
        }
    } else if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b)) {
        for (size_t i = 0; i < json_array_size(a); i++) {
            snprintf(d->place + length, TEXT - length, "[%zu]", i);
            if (differ(json_array_get(a, i), json_array_get(b, i), d))
                return true;
            d->place[length] = '\0';
        }
    }
    show(a, d->file);
    show(b, d->fitter);
    return true;
}

/* The JSON that a string of the metadata holds, as a new reference. */
static json_t *load_text(const nfi_container *c, const char *who, const char *key)
{
    const char *text = nfi_container_metadata(c, key);
    json_error_t error = {.text = "it is missing"};
    json_t *json = text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (!json)
        nf_error(text && json_error_code(&error) == json_error_out_of_memory ? NF_ENOMEM : NF_EFORMAT,
                 "%s: %s: damaged %s: %s", who, c->path, key, error.text);
    return json;
}

static nf_status check_model(const nf_fitter *f, const nfi_container *c, const char *who)
{
    json_t *theirs = load_text(c, who, "architecture"), *ours = theirs ? nfi_describe(f->m->o, who) : NULL;
    difference d = {.place = ""};
    nf_status status = theirs && ours ? NF_OK : nf_error_status();
    if (status == NF_OK && differ(theirs, ours, &d))
        status =
            nf_error(NF_EARG, "%s: %s: a checkpoint of another model: %s is %.100s there, but %.100s in the fitter's",
                     who, c->path, d.place, d.file, d.fitter);
    json_decref(theirs);
    json_decref(ours);
    return status;
}

static nf_status check_precision(const nfi_container *c, const char *who)
{
    const char *is = nfi_container_metadata(c, "precision");
    if (is && strcmp(is, precision) == 0)
        return NF_OK;
    return nf_error(NF_EARG, "%s: %s: a checkpoint in precision %s, this library computes in %s", who, c->path,
                    is ? is : "?", precision);
}

/* ---- reading ---- */

/* Reads all arrays of the file into new arrays. The caller releases them, also on failure. */
static nf_status take_arrays(nfi_container *c, const char *who, const nf_fitter *next, nfi_fit_arrays *a)
{
    const nf_shape *s = &next->m->o->total;
    const size_t n_slots = next->options.optimizer->n_slots;
    const bool average = next->options.average > 0;
    nf_status status = nfi_fit_reserve(a, s, n_slots, average);
    nfi_fit_array list[NFI_FIT_ARRAYS];
    const size_t n = nfi_fit_list(a, s, n_slots, average, list);
    size_t tensors = 1; /* one is the checksum, which has been read already */
    for (size_t i = 0; i < n && status == NF_OK; i++) {
        const nfi_slice slice = slice_of(&list[i]);
        tensors += slice.count != 0;
        if (slice.count)
            status = nfi_container_take(c, who, &slice, *list[i].at);
    }
    if (status == NF_OK && tensors != c->n_tensors)
        status = nf_error(NF_EFORMAT, "%s: %s: %zu tensors, expected %zu", who, c->path, c->n_tensors, tensors);
    return status;
}

static nf_status read_all(nfi_container *c, const char *who, nf_fitter *next, nfi_fit_arrays *a)
{
    nf_status status = check_sum(c, who);
    if (status == NF_OK)
        status = check_precision(c, who);
    if (status == NF_OK)
        status = check_model(next, c, who);
    json_t *progress = status == NF_OK ? load_text(c, who, "progress") : NULL;
    if (status == NF_OK && !progress)
        status = nf_error_status();
    if (status == NF_OK)
        status = nfi_progress_read(next, progress, c->path, who);
    json_decref(progress);
    return status == NF_OK ? take_arrays(c, who, next, a) : status;
}

nf_status nfi_checkpoint_read(nf_fitter *f, const char *path, const char *who)
{
    nfi_container c;
    nf_status status = nfi_container_open(&c, who, path, &format);
    if (status != NF_OK)
        return status;
    nf_fitter next = *f;
    nfi_fit_arrays a = {0};
    status = read_all(&c, who, &next, &a);
    nfi_container_free(&c);
    if (status == NF_OK) {
        nfi_fit_release(&f->a);
        f->options = next.options;
        f->rule = next.rule;
        f->now = next.now;
        f->a = a;
        f->written = f->now.report.steps;
    } else
        nfi_fit_release(&a);
    return status;
}
