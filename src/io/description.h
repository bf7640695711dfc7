/* The architecture of an object as JSON, both ways:
   {"kind": "flow", "type": "chain", "dim_in": 2, "dim_out": 2, "n_ctx": 0, "fields": {...}, "children": [...]} */
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

struct nf_reader {
    const char *kind, *type;
    size_t dim_in, dim_out, n_ctx; /* what the file says */
    size_t n_numbers;              /* in the file */
    const struct json_t *fields;
    nf_object **children; /* [n_children], the reader's references */
    size_t n_children;
};

/* The description, a new reference; NULL on NF_ENOMEM, NF_EUNSUPPORTED (too deep) or what a describe hook returned. */
struct json_t *nfi_describe(const nf_object *o);
/* The object that a description names. n_numbers: parameters and state in the file, which the object cannot exceed.
   NULL on NF_EFORMAT, NF_ENOMEM; `path` is for messages. */
nf_object *nfi_rebuild(const struct json_t *description, const nf_types *types, size_t n_numbers, const char *path);

#endif
