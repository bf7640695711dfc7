/* Writes a safetensors file (safetensors_read.c has the format), and the checksum of header and data that says whether
   a file is damaged. */
#include "io/safetensors.h"
#include "io/json_text.h"
#include <jansson.h>
#include <string.h>

enum { ALIGNMENT = 8, CHUNK = 4096 };

static json_t *json_of_sizes(size_t n, const size_t *sizes)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(array, json_integer((json_int_t)sizes[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

nf_status nfi_header_add(struct json_t *header, const char *who, const nfi_slice *s, size_t *n_data)
{
    if (json_object_get(header, s->name) || strcmp(s->name, NFI_METADATA_KEY) == 0)
        return nf_error(NF_EARG, "%s: the name '%s' of a tensor is taken", who, s->name);
    size_t place[2] = {*n_data, *n_data + s->count * sizeof(nf_real)};
    json_t *entry = json_object();
    int bad = json_object_set_new(entry, "dtype", json_string(sizeof(nf_real) == sizeof(double) ? "F64" : "F32"));
    bad |= json_object_set_new(entry, "shape", json_of_sizes(s->rank, s->extents));
    bad |= json_object_set_new(entry, "data_offsets", json_of_sizes(2, place));
    if (bad) {
        json_decref(entry);
        return nf_error(NF_ENOMEM, "%s: no memory for the header", who);
    }
    *n_data = place[1];
    if (json_object_set_new(header, s->name, entry) != 0)
        return nf_error(NF_ENOMEM, "%s: no memory for tensor '%s', or its name is not UTF-8", who, s->name);
    return NF_OK;
}

void nfi_encode(size_t n, const nf_real *numbers, unsigned char *bytes)
{
    for (size_t i = 0; i < n; i++) {
#ifdef NF_SINGLE
        uint32_t bits;
#else
        uint64_t bits;
#endif
        memcpy(&bits, &numbers[i], sizeof bits);
        for (size_t b = 0; b < sizeof bits; b++)
            bytes[i * sizeof bits + b] = (unsigned char)(bits >> 8 * b);
    }
}

/* Adds whole words of 4 bytes to a checksum. Every step is one-to-one in the sum and in the word, so a change of a
   single word always changes the result. */
static uint64_t add_to_sum(uint64_t sum, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        sum ^= nfi_little_endian(bytes + i, 4);
        sum = (sum << 29 | sum >> 35) * 0x9e3779b97f4a7c15u;
    }
    return sum;
}

static uint64_t sum_of_header(const unsigned char *header, size_t length)
{
    return add_to_sum(length, header, length / 4 * 4);
}

uint64_t nfi_container_sum(const nfi_container *c, size_t n_data)
{
    return add_to_sum(sum_of_header(c->bytes, (size_t)(c->data - c->bytes)), c->data, n_data / 4 * 4);
}

nf_status nfi_container_begin(nfi_container_writer *w, const char *who, const char *path, const struct json_t *header)
{
    char *text;
    size_t length;
    nf_status status = nfi_json_text(header, JSON_COMPACT, ALIGNMENT, who, &text, &length);
    if (status != NF_OK)
        return status;
    w->sum = sum_of_header((const unsigned char *)text, length);
    status = nfi_atomic_open(&w->file, who, path);
    if (status == NF_OK) {
        unsigned char first[NFI_LENGTH_BYTES];
        for (size_t i = 0; i < NFI_LENGTH_BYTES; i++)
            first[i] = (unsigned char)((uint64_t)length >> 8 * i);
        status = nfi_atomic_write(&w->file, first, sizeof first);
        if (status == NF_OK)
            status = nfi_atomic_write(&w->file, text, length);
        if (status != NF_OK)
            status = nfi_atomic_finish(&w->file, status);
    }
    nfi_free(text);
    return status;
}

nf_status nfi_container_put(nfi_container_writer *w, size_t n, const nf_real *numbers)
{
    unsigned char bytes[CHUNK * sizeof(nf_real)];
    nf_status status = NF_OK;
    for (size_t i = 0; i < n && status == NF_OK; i += CHUNK) {
        size_t part = n - i < CHUNK ? n - i : CHUNK;
        nfi_encode(part, numbers + i, bytes);
        w->sum = add_to_sum(w->sum, bytes, part * sizeof(nf_real));
        status = nfi_atomic_write(&w->file, bytes, part * sizeof(nf_real));
    }
    return status;
}

nf_status nfi_container_finish(nfi_container_writer *w, nf_status status)
{
    return nfi_atomic_finish(&w->file, status);
}
