/* The architecture of an object as JSON, both ways; nflow/object.h says what stands in it. */
#ifndef NFI_DESCRIPTION_H
#define NFI_DESCRIPTION_H
#include "core/tree.h"
#include <nflow/model.h>

struct json_t; /* Jansson's, which only .c files include */

/* Descriptions are refused, in both directions, beyond so many nested objects, and so many rows of x, y or context. */
enum { NFI_MAX_DEPTH = 64, NFI_MAX_ROWS = 1 << 22 };

struct nf_writer {
    const nf_object *o;
    struct json_t *fields;
};

/* One of the sizes in a description. */
typedef struct nfi_rows_read {
    size_t n;
    bool given;
} nfi_rows_read;

struct nf_reader {
    const char *kind, *type;
    nfi_rows_read dim_in, dim_out, n_ctx; /* what the description says */
    const char *left_out;                 /* the last of them that was asked for and not given; NULL: none */
    size_t n_numbers;                     /* what nf_read_n_numbers gives */
    const struct json_t *fields;
    struct json_t *unread; /* those that nobody has asked for yet */
    nf_object **children;  /* [n_children], the reader's references */
    size_t n_children;
};

/* Sets a field of the object being described; steals value, whose NULL is NF_ENOMEM. `function` is for messages. */
nf_status nfi_set_field(nf_writer *w, const char *function, const char *name, struct json_t *value);
/* The field of that name in *value; NF_EFORMAT if there is none. out, the place for the result, is only checked. */
nf_status nfi_find_field(nf_reader *r, const char *function, const char *name, const void *out,
                         const struct json_t **value);
/* The field as an array of n; NULL with an error if it is not. `of` says what its items are. */
const struct json_t *nfi_find_array(nf_reader *r, const char *function, const char *name, size_t n, const void *values,
                                    const char *of);

/* The description, a new reference; NULL on NF_ENOMEM, NF_EUNSUPPORTED (too deep) or what a describe hook returned.
   `who` is for messages. */
struct json_t *nfi_describe(const nf_object *o, const char *who);

/* Where a description is from, and what its objects may need. */
typedef struct nfi_origin {
    const char *who, *path; /* for messages; path NULL: none */
    const nf_types *types;
    size_t n_numbers;    /* what nf_read_n_numbers gives */
    size_t most_numbers; /* parameters, or state, that all objects together may have */
} nfi_origin;

/* The object that a description names. NULL on NF_EFORMAT, NF_ENOMEM. */
nf_object *nfi_rebuild(const struct json_t *description, const nfi_origin *from);

/* JSON as 0-terminated text, padded with spaces to a multiple of `alignment`; *text is the caller's (nfi_free). `flags`
   are Jansson's. NF_ENOMEM. */
nf_status nfi_json_text(const struct json_t *json, size_t flags, size_t alignment, const char *who, char **text,
                        size_t *length);

#endif
