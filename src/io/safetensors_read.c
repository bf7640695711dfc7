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

static nf_status truncated(const nfi_container *c, const char *who, uint64_t length, uint64_t left)
{
    return nf_error(NF_EFORMAT, "%s: %s: truncated: the header promises %llu bytes, %llu follow", who, c->path,
                    (unsigned long long)length, (unsigned long long)left);
}

/* Reads the header's length, and its text if the file can hold so much. */
static nf_status read_text(nfi_container *c, const char *who)
{
    unsigned char first[NFI_LENGTH_BYTES];
    size_t got = 0;
    uint64_t left;
    nf_status status = nfi_stream_read(c->stream, first, sizeof first, &got);
    if (status != NF_OK)
        return status;
    if (got < sizeof first)
        return nf_error(NF_EFORMAT, "%s: %s: %zu bytes are too few for a model file", who, c->path, got);
    const uint64_t length = nfi_little_endian(first, got);
    if (length < 2 || length > MAX_HEADER_BYTES)
        return nf_error(NF_EFORMAT, "%s: %s: not a model file: a header of %llu bytes is impossible", who, c->path,
                        (unsigned long long)length);
    if (nfi_stream_left(c->stream, &left) && left < length)
        return truncated(c, who, length, left);
    status = nfi_stream_read_all(c->stream, (size_t)length, &c->text, &c->n_text);
    return status == NF_OK && c->n_text < length ? truncated(c, who, length, c->n_text) : status;
}

static bool read_size(const json_t *value, size_t *size)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *size = (size_t)json_integer_value(value);
    return true;
}

static size_t width_of(const char *dtype)
{
    static const struct {
        const char *name;
        size_t width;
    } known[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(dtype, known[i].name) == 0)
            return known[i].width;
    return 0;
}

/* Reads one entry of the header, and checks it by itself. The width is 0 if the entry may be sound, but is none that
   this library reads. */
static bool read_tensor(const char *name, const json_t *entry, nfi_tensor *t)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    *t = (nfi_tensor){.name = name, .dtype = dtype, .count = 1, .rank = json_array_size(shape)};
    if (!dtype || json_object_size(entry) != 3 || !json_is_array(shape) || json_array_size(offsets) != 2)
        return false;
    t->width = t->rank <= NFI_MAX_RANK ? width_of(dtype) : 0;
    for (size_t i = 0; i < t->rank; i++) {
        size_t extent;
        if (!read_size(json_array_get(shape, i), &extent) || !nfi_mul(t->count, extent, &t->count))
            return false;
        if (i < NFI_MAX_RANK)
            t->extents[i] = extent;
    }
    size_t bytes;
    return nfi_mul(t->count, t->width, &bytes) && read_size(json_array_get(offsets, 0), &t->begin) &&
           read_size(json_array_get(offsets, 1), &t->end) && t->begin <= t->end &&
           (t->width == 0 || t->end - t->begin == bytes);
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

static nf_status wrong_size(const nfi_container *c, const char *who, uint64_t n_data)
{
    return nf_error(NF_EFORMAT, "%s: %s: %llu bytes of data, but the tensors have %zu", who, c->path,
                    (unsigned long long)n_data, c->n_data);
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
            return nf_error(NF_EFORMAT, "%s: %s: tensor '%s' has no dtype, shape and data_offsets that agree", who,
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
    c->n_data = next;
    uint64_t left;
    if (nfi_stream_left(c->stream, &left) && next != left)
        return wrong_size(c, who, left);
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

/* Whether the file is of the format; if it is, the library must be able to read all its tensors. */
static nf_status check_format(const nfi_container *c, const char *who, const nfi_format *format)
{
    const char *is = nfi_container_metadata(c, "format"), *version = nfi_container_metadata(c, "format_version");
    if (!is || strcmp(is, format->name) != 0) {
        const nfi_tensor *t = c->n_tensors ? c->tensor : NULL; /* one as an example */
        return nf_error(NF_EFORMAT,
                        "%s: %s: a safetensors file, but not a %s of this library: its metadata name %s%s%s, and it "
                        "has %zu tensors%s%.64s%s%.16s%s",
                        who, c->path, format->what, is ? "the format '" : "no format", is ? is : "", is ? "'" : "",
                        c->n_tensors, t ? ", such as '" : "", t ? t->name : "", t ? "' (" : "", t ? t->dtype : "",
                        t ? ")" : "");
    }
    if (!version || strcmp(version, format->version) != 0)
        return nf_error(NF_EFORMAT, "%s: %s: format version '%s', this library reads '%s'", who, c->path,
                        version ? version : "", format->version);
    for (size_t i = 0; i < c->n_tensors; i++)
        if (c->tensor[i].width == 0)
            return nf_error(NF_EFORMAT,
                            "%s: %s: tensor '%s' has %zu indices and dtype %s, but this library reads at most %d "
                            "indices, and F64, F32, F16 and BF16",
                            who, c->path, c->tensor[i].name, c->tensor[i].rank, c->tensor[i].dtype, NFI_MAX_RANK);
    return NF_OK;
}

nf_status nfi_container_open(nfi_container *c, const char *who, const char *path, const nfi_format *format)
{
    *c = (nfi_container){.path = path, .stream = nfi_stream_open(who, path, false)};
    nf_status status = c->stream ? read_text(c, who) : nf_error_status();
    if (status == NF_OK && c->text[0] != '{')
        status = nf_error(NF_EFORMAT, "%s: %s: not a model file: the header does not begin with '{'", who, path);
    if (status == NF_OK) {
        json_error_t error;
        c->header = json_loadb((const char *)c->text, c->n_text, JSON_REJECT_DUPLICATES, &error);
        if (!c->header)
            status = nf_error(json_error_code(&error) == json_error_out_of_memory ? NF_ENOMEM : NF_EFORMAT,
                              "%s: %s: damaged header: %s", who, path, error.text);
    }
    if (status == NF_OK)
        status = check_metadata(c, who);
    if (status == NF_OK)
        status = read_tensors(c, who);
    if (status == NF_OK && format)
        status = check_format(c, who, format);
    if (status != NF_OK)
        nfi_container_free(c);
    return status;
}

nf_status nfi_container_read_data(nfi_container *c, const char *who)
{
    size_t got;
    nf_status status = nfi_stream_read_all(c->stream, c->n_data, &c->data, &got);
    if (status == NF_OK && got < c->n_data)
        status = wrong_size(c, who, got);
    if (status == NF_OK)
        status = nfi_stream_expect_end(c->stream);
    nfi_stream_close(c->stream);
    c->stream = NULL;
    return status;
}

void nfi_container_free(nfi_container *c)
{
    json_decref(c->header);
    nfi_free(c->tensor);
    nfi_free(c->text);
    nfi_free(c->data);
    nfi_stream_close(c->stream);
    *c = (nfi_container){0};
}

const char *nfi_container_metadata(const nfi_container *c, const char *key)
{
    return json_string_value(json_object_get(json_object_get(c->header, NFI_METADATA_KEY), key));
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16: sign, 5 bits of exponent with bias 15, 10 bits of fraction. Every value is one of float's. */
static float decode_half(uint32_t bits)
{
    const uint32_t sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 0) /* fraction * 2^-24, which is a normal number of float's */
        return sign ? -(float)fraction * 0x1p-24f : (float)fraction * 0x1p-24f;
    return float_of_bits(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
}

static double decode_double(const unsigned char *bytes)
{
    const uint64_t bits = nfi_little_endian(bytes, sizeof(double));
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A number of a dtype of 2 or 4 bytes. */
static float decode_float(const unsigned char *bytes, const nfi_tensor *t)
{
    const uint32_t bits = (uint32_t)nfi_little_endian(bytes, t->width);
    return t->width == sizeof(float) ? float_of_bits(bits)
           : t->dtype[0] == 'B'      ? float_of_bits(bits << 16) /* the upper half of a float */
                                     : decode_half(bits);
}

/* Decodes one number. Returns false if it is finite, but overflows the library's precision. */
static bool decode(const unsigned char *bytes, const nfi_tensor *t, nf_real *out)
{
    if (t->width < sizeof(double)) {
        *out = (nf_real)decode_float(bytes, t);
        return true;
    }
    const double value = decode_double(bytes);
    *out = (nf_real)value;
    return isfinite(*out) || !isfinite(value);
}

size_t nfi_tensor_width(const nfi_tensor *t)
{
    static const struct {
        const char *name;
        size_t width;
    } whole[] = {{"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1}, {"U8", 1}, {"BOOL", 1}};
    size_t bytes;
    if (t->width || t->rank > NFI_MAX_RANK)
        return t->width;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strcmp(t->dtype, whole[i].name) == 0)
            return nfi_mul(t->count, whole[i].width, &bytes) && bytes == t->end - t->begin ? whole[i].width : 0;
    return 0;
}

double nfi_container_number(const nfi_container *c, const nfi_tensor *t, size_t i)
{
    const size_t width = nfi_tensor_width(t);
    const unsigned char *bytes = c->data + t->begin + i * width;
    if (t->width)
        return t->width == sizeof(double) ? decode_double(bytes) : (double)decode_float(bytes, t);
    const uint64_t bits = nfi_little_endian(bytes, width), sign = (uint64_t)1 << (8 * width - 1);
    return t->dtype[0] == 'I' && (bits & sign) ? -(double)((sign << 1) - bits) : (double)bits;
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
        if (!decode(c->data + t->begin + i * t->width, t, &out[i]))
            return nf_error(NF_EFORMAT, "%s: %s: number %zu of tensor '%s' is too large for single precision", who,
                            c->path, i, s->name);
    return NF_OK;
}
