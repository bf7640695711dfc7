/* Reads and checks a safetensors file (github.com/huggingface/safetensors, README "Format"). A file begins with the
   header's length as 8 little-endian bytes; it is at most 100 MB. Then comes the header: JSON that begins with '{' and
   may end in spaces:
       {"__metadata__": {"key": "text", ...}, "name": {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]}, ...}
   Then come the data, row-major and little-endian. Tensors cover the data without holes or overlaps; names are
   unique. */
#include "io/safetensors.h"
#include "io/stream.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 100000000 };

/* Reads the file in two steps, so that a wrong length of the header is noticed before the rest is read. */
static nf_status read_bytes(nfi_container *c, const char *who, size_t *header_length)
{
    nfi_stream *s = nfi_stream_open(who, c->path, false);
    if (!s)
        return nf_error_status();
    unsigned char first[NFI_LENGTH_BYTES];
    size_t got = 0, n = 0;
    nf_status status = nfi_stream_read(s, first, sizeof first, &got);
    uint64_t length = nfi_little_endian(first, got);
    if (status == NF_OK && got < sizeof first)
        status = nf_error(NF_EFORMAT, "%s: %s: %zu bytes are too few for a model file", who, c->path, got);
    else if (status == NF_OK && (length < 2 || length > MAX_HEADER_BYTES))
        status = nf_error(NF_EFORMAT, "%s: %s: not a model file: a header of %llu bytes is impossible", who, c->path,
                          (unsigned long long)length);
    if (status == NF_OK)
        status = nfi_stream_read_all(s, SIZE_MAX, &c->bytes, &n);
    nfi_stream_close(s);
    if (status != NF_OK)
        return status;
    if (length > n)
        return nf_error(NF_EFORMAT, "%s: %s: truncated: the header promises %llu bytes, %zu follow", who, c->path,
                        (unsigned long long)length, n);
    *header_length = (size_t)length;
    c->data = c->bytes + *header_length;
    c->n_data = n - *header_length;
    return NF_OK;
}

static bool read_size(const json_t *value, size_t *size)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *size = (size_t)json_integer_value(value);
    return true;
}

/* Reads one entry of the header, and checks it by itself. */
static bool read_tensor(const char *name, const json_t *entry, nfi_tensor *t)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    *t = (nfi_tensor){.name = name, .count = 1, .rank = json_array_size(shape)};
    if (!dtype || json_object_size(entry) != 3 || !json_is_array(shape) || t->rank > NFI_MAX_RANK ||
        json_array_size(offsets) != 2)
        return false;
    t->width = strcmp(dtype, "F64") == 0 ? 8 : strcmp(dtype, "F32") == 0 ? 4 : 0;
    for (size_t i = 0; i < t->rank; i++)
        if (!read_size(json_array_get(shape, i), &t->extents[i]) || !nfi_mul(t->count, t->extents[i], &t->count))
            return false;
    size_t bytes;
    return t->width && nfi_mul(t->count, t->width, &bytes) && read_size(json_array_get(offsets, 0), &t->begin) &&
           read_size(json_array_get(offsets, 1), &t->end) && t->begin <= t->end && t->end - t->begin == bytes;
}

static int by_place(const void *a, const void *b)
{
    const nfi_tensor *s = a, *t = b;
    if (s->begin != t->begin)
        return s->begin < t->begin ? -1 : 1;
    return (s->end > t->end) - (s->end < t->end);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nfi_tensor *)a)->name, ((const nfi_tensor *)b)->name);
}

static nf_status read_tensors(nfi_container *c, const char *who)
{
    c->tensor = nfi_calloc(json_object_size(c->header), sizeof *c->tensor);
    if (!c->tensor)
        return NF_ENOMEM;
    const char *name;
    json_t *entry;
    json_object_foreach(c->header, name, entry)
    {
        if (strcmp(name, NFI_METADATA_KEY) == 0)
            continue;
        nfi_tensor *t = &c->tensor[c->n_tensors++];
        if (!read_tensor(name, entry, t))
            return nf_error(NF_EFORMAT,
                            "%s: %s: tensor '%s' has no dtype F32 or F64, shape and data_offsets that agree", who,
                            c->path, name);
        c->n_numbers += t->count;
    }
    qsort(c->tensor, c->n_tensors, sizeof *c->tensor, by_place);
    size_t next = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        if (c->tensor[i].begin != next)
            return nf_error(NF_EFORMAT, "%s: %s: tensor '%s' begins at byte %zu, expected %zu", who, c->path,
                            c->tensor[i].name, c->tensor[i].begin, next);
        next = c->tensor[i].end;
    }
    if (next != c->n_data)
        return nf_error(NF_EFORMAT, "%s: %s: %zu bytes of data, but the tensors have %zu", who, c->path, c->n_data,
                        next);
    qsort(c->tensor, c->n_tensors, sizeof *c->tensor, by_name);
    return NF_OK;
}

static nf_status check_metadata(const nfi_container *c, const char *who)
{
    json_t *metadata = json_object_get(c->header, NFI_METADATA_KEY), *value;
    if (metadata && !json_is_object(metadata))
        return nf_error(NF_EFORMAT, "%s: %s: %s is not an object", who, c->path, NFI_METADATA_KEY);
    const char *key;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return nf_error(NF_EFORMAT, "%s: %s: '%s' in %s is not a string", who, c->path, key, NFI_METADATA_KEY);
    }
    return NF_OK;
}

nf_status nfi_container_read(nfi_container *c, const char *who, const char *path)
{
    *c = (nfi_container){.path = path};
    size_t length = 0;
    nf_status status = read_bytes(c, who, &length);
    if (status == NF_OK && c->bytes[0] != '{')
        status = nf_error(NF_EFORMAT, "%s: %s: not a model file: the header does not begin with '{'", who, path);
    if (status == NF_OK) {
        json_error_t error;
        c->header = json_loadb((const char *)c->bytes, length, JSON_REJECT_DUPLICATES, &error);
        if (!c->header)
            status = nf_error(json_error_code(&error) == json_error_out_of_memory ? NF_ENOMEM : NF_EFORMAT,
                              "%s: %s: damaged header: %s", who, path, error.text);
    }
    if (status == NF_OK)
        status = check_metadata(c, who);
    if (status == NF_OK)
        status = read_tensors(c, who);
    if (status != NF_OK)
        nfi_container_free(c);
    return status;
}

void nfi_container_free(nfi_container *c)
{
    json_decref(c->header);
    nfi_free(c->tensor);
    nfi_free(c->bytes);
    *c = (nfi_container){0};
}

const char *nfi_container_metadata(const nfi_container *c, const char *key)
{
    return json_string_value(json_object_get(json_object_get(c->header, NFI_METADATA_KEY), key));
}

/* Decodes one number of either width. Returns false if the number is finite, but overflows the library's precision. */
static bool decode(const unsigned char *bytes, size_t width, nf_real *out)
{
    if (width == sizeof(float)) {
        uint32_t bits = (uint32_t)nfi_little_endian(bytes, sizeof bits);
        float value;
        memcpy(&value, &bits, sizeof value);
        *out = (nf_real)value;
        return true;
    }
    uint64_t bits = nfi_little_endian(bytes, sizeof bits);
    double value;
    memcpy(&value, &bits, sizeof value);
    *out = (nf_real)value;
    return isfinite(*out) || !isfinite(value);
}

nf_status nfi_container_take(nfi_container *c, const char *who, const nfi_slice *s, nf_real *out)
{
    nfi_tensor key = {.name = s->name};
    nfi_tensor *t = bsearch(&key, c->tensor, c->n_tensors, sizeof *c->tensor, by_name);
    if (!t || t->taken)
        return nf_error(NF_EFORMAT, "%s: %s: tensor '%s' %s", who, c->path, s->name,
                        t ? "is needed twice" : "is missing");
    if (t->rank != s->rank || memcmp(t->extents, s->extents, s->rank * sizeof(size_t)) != 0)
        return nf_error(NF_EFORMAT, "%s: %s: tensor '%s' has rank %zu and %zu numbers, expected rank %zu and %zu", who,
                        c->path, s->name, t->rank, t->count, s->rank, s->count);
    t->taken = true;
    for (size_t i = 0; i < t->count; i++)
        if (!decode(c->data + t->begin + i * t->width, t->width, &out[i]))
            return nf_error(NF_EFORMAT, "%s: %s: number %zu of tensor '%s' is too large for single precision", who,
                            c->path, i, s->name);
    return NF_OK;
}
