/* Arrays in NumPy's files (numpy.lib.format): the bytes 93 'NUMPY', a version, the header's length (two bytes little
   endian, from version 2 on four), and the header, a Python dictionary as text, before the elements:

       {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }

   Read are bool, integers and floats of 1 to 8 bytes, of either byte order, in C's or Fortran's order. */
#include "base/memory.h"
#include "data/elements.h"
#include <ctype.h>
#include <string.h>

enum { LONGEST_HEADER = 1 << 16, PREFIX = 8 };

/* The header's text, up to `end`, and what it says. */
typedef struct header {
    const char *at, *end;
    nfi_raw_array *array;
    bool has_descr, has_order, has_shape;
} header;

static nf_status wrong(const header *h, const char *what)
{
    return nf_error(NF_EFORMAT, "%s: %s: %s", h->array->who, h->array->path, what);
}

static void skip_space(header *h)
{
    while (h->at < h->end && isspace((unsigned char)*h->at))
        h->at++;
}

/* Whether the next character is that one, which is then taken. */
static bool take(header *h, char c)
{
    skip_space(h);
    if (h->at == h->end || *h->at != c)
        return false;
    h->at++;
    return true;
}

static bool take_word(header *h, const char *word)
{
    skip_space(h);
    const size_t n = strlen(word);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n) != 0)
        return false;
    h->at += n;
    return true;
}

/* A string in quotes, of less than `room` characters. */
static bool take_string(header *h, char *text, size_t room)
{
    size_t n = 0;
    const char quote = take(h, '\'') ? '\'' : take(h, '"') ? '"' : 0;
    if (!quote)
        return false;
    while (h->at < h->end && *h->at != quote && n + 1 < room)
        text[n++] = *h->at++;
    text[n] = 0;
    return h->at < h->end && *h->at++ == quote;
}

static bool take_number(header *h, size_t *value)
{
    skip_space(h);
    const char *begin = h->at;
    *value = 0;
    while (h->at < h->end && isdigit((unsigned char)*h->at))
        if (!nfi_mul(*value, 10, value) || !nfi_add(*value, (size_t)(*h->at++ - '0'), value))
            return false;
    return h->at > begin;
}

/* '<f8': byte order, kind, bytes. */
static nf_status read_descr(header *h)
{
    char text[32];
    if (!take_string(h, text, sizeof text))
        return wrong(h, "the elements are structures or have no type ('descr' is no string)");
    const char order = text[0], kind = order ? text[1] : 0, digit = kind ? text[2] : 0;
    const size_t width = digit ? (size_t)(digit - '0') : 0;
    const bool one_digit = digit && text[3] == 0, ordered = strchr("<>|=", order) != NULL;
    const bool integer = (kind == 'u' || kind == 'i') && (width == 1 || width == 2 || width == 4 || width == 8);
    const bool real = kind == 'f' && (width == 2 || width == 4 || width == 8), boolean = kind == 'b' && width == 1;
    if (!ordered || !one_digit || !(integer || real || boolean))
        return nf_error(NF_EFORMAT,
                        "%s: %s: elements of type '%s', but only bool, integers and floats up to 8 bytes are read",
                        h->array->who, h->array->path, text);
    h->array->element = (nfi_element){.kind = real          ? NFI_FLOATING
                                              : kind == 'i' ? NFI_SIGNED
                                                            : NFI_UNSIGNED,
                                      .width = width,
                                      .big_endian = order == '>'};
    h->has_descr = true;
    return NF_OK;
}

static nf_status read_order(header *h)
{
    h->array->fortran = take_word(h, "True");
    if (!h->array->fortran && !take_word(h, "False"))
        return wrong(h, "'fortran_order' is neither True nor False");
    h->has_order = true;
    return NF_OK;
}

/* (3, 4), (3,) or (). */
static nf_status read_shape(header *h)
{
    size_t rank = 0;
    bool comma = true;
    if (!take(h, '('))
        return wrong(h, "'shape' is no tuple");
    while (!take(h, ')')) {
        if (rank == NFI_MOST_RANK)
            return wrong(h, "more than 255 extents");
        if (!comma || !take_number(h, &h->array->extent[rank++]))
            return wrong(h, "'shape' is no tuple of numbers");
        comma = take(h, ',');
    }
    h->array->rank = rank;
    h->has_shape = true;
    return NF_OK;
}

static nf_status read_dictionary(header *h)
{
    nf_status status = take(h, '{') ? NF_OK : wrong(h, "the header is no dictionary");
    while (status == NF_OK && !take(h, '}')) {
        char key[32];
        if (!take_string(h, key, sizeof key) || !take(h, ':'))
            return wrong(h, "the header is no dictionary");
        status = strcmp(key, "descr") == 0           ? read_descr(h)
                 : strcmp(key, "fortran_order") == 0 ? read_order(h)
                 : strcmp(key, "shape") == 0         ? read_shape(h)
                                                     : wrong(h, "the header has an unknown key");
        if (status == NF_OK && !take(h, ',')) {
            status = take(h, '}') ? NF_OK : wrong(h, "the header is cut");
            break;
        }
    }
    skip_space(h);
    if (status == NF_OK && h->at != h->end)
        return wrong(h, "text behind the header's dictionary");
    if (status == NF_OK && !(h->has_descr && h->has_order && h->has_shape))
        return wrong(h, "the header lacks 'descr', 'fortran_order' or 'shape'");
    return status;
}

/* The prefix and the length of the header. */
static nf_status read_prefix(nfi_stream *s, const header *h, size_t *length)
{
    unsigned char bytes[PREFIX], more[4] = {0};
    size_t got, got_length = 2;
    nf_status status = nfi_stream_read(s, bytes, sizeof bytes, &got);
    if (status != NF_OK)
        return status;
    if (got < sizeof bytes || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return wrong(h, "not an npy file (it does not begin with \\x93NUMPY)");
    if (bytes[6] < 1 || bytes[6] > 3)
        return nf_error(NF_EFORMAT, "%s: %s: npy version %u.%u, but 1 to 3 are read", h->array->who, h->array->path,
                        bytes[6], bytes[7]);
    got_length = bytes[6] == 1 ? 2 : 4;
    status = nfi_stream_read(s, more, got_length, &got);
    *length = more[0] | (size_t)more[1] << 8 | (size_t)more[2] << 16 | (size_t)more[3] << 24;
    if (status == NF_OK && (got < got_length || *length > LONGEST_HEADER))
        return wrong(h, got < got_length ? "the header is cut" : "the header is longer than 65536 bytes");
    return status;
}

static nf_status read_header(nfi_stream *s, header *h, char *text)
{
    size_t length = 0, got = 0;
    nf_status status = read_prefix(s, h, &length);
    if (status == NF_OK)
        status = nfi_stream_read(s, (unsigned char *)text, length, &got);
    if (status == NF_OK && got < length)
        status = wrong(h, "the header is cut");
    h->at = text;
    h->end = text + got;
    if (status == NF_OK)
        status = read_dictionary(h);
    return status == NF_OK ? nfi_count_array(h->array) : status;
}

nf_status nfi_read_npy_header(nfi_stream *s, nfi_raw_array *a)
{
    char *text = nfi_calloc(LONGEST_HEADER, 1);
    nf_status status = text ? read_header(s, &(header){.array = a}, text) : NF_ENOMEM;
    nfi_free(text);
    return status;
}

nf_status nf_load_npy(const char *path, size_t max_bytes, nf_array *out)
{
    return nfi_load_array("nf_load_npy", path, max_bytes, nfi_read_npy_header, out);
}
