/* Safetensors files whose header, offsets and data agree, whatever has been changed in them. */
#include "fuzz.h"
#include "io/safetensors.h"
#include "io/slices.h"
#include "model/description.h"
#include <jansson.h>
#include <math.h>

enum { MOST_NUMBERS = 4096 };

bool fuzz_take_apart(const uint8_t *file, size_t size, fuzz_container *c)
{
    *c = (fuzz_container){0};
    const uint64_t length = size >= 8 ? nfi_little_endian(file, 8) : UINT64_MAX;
    if (length < 2 || length > size - 8)
        return false;
    c->header = json_loadb((const char *)file + 8, (size_t)length, 0, NULL);
    if (!json_is_object(c->header)) {
        json_decref(c->header);
        return false;
    }
    c->n_data = size - 8 - (size_t)length;
    c->data = malloc(c->n_data + 1);
    memcpy(c->data, file + 8 + length, c->n_data);
    return true;
}

static size_t bytes_of(const json_t *entry)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const char digit = dtype && *dtype ? dtype[strlen(dtype) - 1] : '4';
    size_t bytes = digit == '4' ? 8 : digit == '2' ? 4 : digit == '6' ? 2 : 1, i; /* F64 I64, F32, F16, BOOL U8 */
    json_t *extent;
    json_array_foreach(json_object_get(entry, "shape"), i, extent)
    {
        if (!json_is_integer(extent) || json_integer_value(extent) < 0 || json_integer_value(extent) > MOST_NUMBERS ||
            bytes > MOST_NUMBERS * 8)
            return 0;
        bytes *= (size_t)json_integer_value(extent);
    }
    return bytes > MOST_NUMBERS * 8 ? 0 : bytes;
}

/* Makes the data `n` bytes, by repeating what there is. */
static void resize(fuzz_container *c, size_t n)
{
    uint8_t *data = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        data[i] = c->n_data ? c->data[i % c->n_data] : (uint8_t)(i * 37);
    free(c->data);
    c->data = data;
    c->n_data = n;
}

void fuzz_settle(fuzz_container *c, fuzz_random *r)
{
    const size_t n = json_object_size(c->header), liar = fuzz_below(r, 8) ? n : fuzz_below(r, n + 1);
    const char *name;
    json_t *entry;
    size_t at = 0, i = 0;
    json_object_foreach(c->header, name, entry)
    {
        const bool lies = i++ == liar;
        if (strcmp(name, NFI_METADATA_KEY) == 0 || !json_is_object(entry))
            continue;
        const size_t bytes = bytes_of(entry), end = at + (lies ? fuzz_below(r, 2 * bytes + 9) : bytes);
        json_object_set_new(entry, "data_offsets", json_pack("[I, I]", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    resize(c, at);
}

static json_t *entry_of(const nfi_slice *s, fuzz_random *r)
{
    static const char *const dtype[] = {"F64", "F64", "F64", "F32", "F16", "BF16"};
    json_t *shape = json_array();
    for (size_t i = 0; i < s->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)s->extents[i]));
    return json_pack("{s:s, s:o}", "dtype", dtype[fuzz_below(r, 6)], "shape", shape);
}

void fuzz_fit_tensors(fuzz_container *c, fuzz_random *r)
{
    json_t *metadata = json_object_get(c->header, NFI_METADATA_KEY);
    const char *text = json_string_value(json_object_get(metadata, "architecture"));
    json_t *architecture = text ? json_loads(text, 0, NULL) : NULL;
    const nfi_origin from = {.who = "fuzz", .n_numbers = MOST_NUMBERS, .most_numbers = MOST_NUMBERS};
    nf_object *o = json_is_object(architecture) ? nfi_rebuild(architecture, &from) : NULL;
    json_decref(architecture);
    nfi_slices slices;
    const nf_shape *s = nf_object_shape(o);
    if (o && s->n_params <= MOST_NUMBERS && s->n_state <= MOST_NUMBERS && nfi_slices_of(o, "fuzz", &slices) == NF_OK) {
        json_t *header = json_object();
        json_object_set(header, NFI_METADATA_KEY, metadata);
        for (size_t i = 0; i < slices.n; i++)
            json_object_set_new(header, slices.slice[i].name, entry_of(&slices.slice[i], r));
        if (s->n_state)
            json_object_set_new(header, "state", entry_of(&(nfi_slice){.rank = 1, .extents = {s->n_state}}, r));
        json_decref(c->header);
        c->header = header;
        nfi_slices_free(&slices);
    }
    nf_object_free(o);
}

void fuzz_metadata(fuzz_container *c, const char *key, fuzz_random *r)
{
    json_t *metadata = json_object_get(c->header, NFI_METADATA_KEY);
    const char *text = json_string_value(json_object_get(metadata, key));
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    if (!json)
        return;
    fuzz_json(&json, r);
    char *changed = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (changed)
        json_object_set_new(metadata, key, json_string(changed));
    free(changed);
}

void fuzz_numbers(fuzz_container *c, fuzz_random *r)
{
    static const double far[] = {0, -0.0, 1, -1, NAN, INFINITY, -INFINITY, 1e300, -1e300, 1e-310, 700, -700, 40, 1e9};
    for (size_t i = fuzz_below(r, 4); i < 4 && c->n_data >= 8; i++) {
        const double value = fuzz_below(r, 3) ? far[fuzz_below(r, sizeof far / sizeof *far)]
                                              : ldexp((double)(int64_t)fuzz_next(r), (int)fuzz_below(r, 12) - 66);
        memcpy(c->data + fuzz_below(r, c->n_data / 8) * 8, &value, sizeof value);
    }
}

size_t fuzz_put_together(fuzz_container *c, uint8_t *file, size_t room)
{
    const size_t length = json_dumpb(c->header, NULL, 0, JSON_COMPACT), padded = (length + 7) / 8 * 8;
    const bool fits = length && room >= 8 && padded <= room - 8 && c->n_data <= room - 8 - padded;
    if (fits) {
        for (size_t i = 0; i < 8; i++)
            file[i] = (uint8_t)((uint64_t)padded >> 8 * i);
        memset(file + 8, ' ', padded);
        json_dumpb(c->header, (char *)file + 8, length, JSON_COMPACT);
        memcpy(file + 8 + padded, c->data, c->n_data);
    }
    const size_t size = fits ? 8 + padded + c->n_data : 0;
    json_decref(c->header);
    free(c->data);
    return size;
}
