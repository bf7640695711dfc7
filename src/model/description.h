/* The architecture of an object as JSON, written and read; nflow/description.h says what it contains. */
#ifndef NFI_DESCRIPTION_H
#define NFI_DESCRIPTION_H
#include "base/memory.h"
#include "io/json_text.h"
#include "object/tree.h"
#include <nflow/model.h>

struct json_t; /* Jansson's, which only .c files include */

/* Limits of a description, in writing and in reading: objects inside one another, and features of x, y or context. */
enum { NFI_MAX_DEPTH = 64, NFI_MAX_ROWS = 1 << 22 };

struct nf_writer {
    const nf_object *o;
    struct json_t *fields;
};

/* One of the sizes in a description, if it is there. */
typedef struct nfi_rows_read {
    size_t n;
    bool given;
} nfi_rows_read;

struct nf_reader {
    const char *kind, *type;
    nfi_rows_read dim_in, dim_out, n_ctx; /* what the description says */
    const char *left_out;                 /* the size that was left out and asked for last; NULL: none */
    size_t n_numbers;                     /* the result of nf_read_n_numbers */
    bool is_file;                         /* the result of nf_read_is_file */
    const struct json_t *fields;
    struct json_t *unread; /* the fields that nobody has asked for yet */
    nf_object **children;  /* [n_children]; the reader holds a reference to each */
    size_t n_children;
    nf_arena memory; /* of what nf_options_read returned */
};

/* Sets a field of the object being described. It takes over the reference to value; a NULL value means NF_ENOMEM.
   `function` is for messages. */
nf_status nfi_set_field(nf_writer *w, const char *function, const char *name, struct json_t *value);
/* Finds the field of that name and writes it to *value; NF_EFORMAT if there is none. `out`, the place for the caller's
   result, is only checked for NULL. */
nf_status nfi_find_field(nf_reader *r, const char *function, const char *name, const void *out,
                         const struct json_t **value);
/* The field as an array of n items; NULL with an error if the field is not such an array. `of` names the kind of item
   for messages. */
const struct json_t *nfi_find_array(nf_reader *r, const char *function, const char *name, size_t n, const void *values,
                                    const char *of);

/* The description, a new reference. NULL on NF_ENOMEM, on NF_EUNSUPPORTED (too deep or too many features), or on an
   error of a describe hook. `who` is for messages. */
struct json_t *nfi_describe(const nf_object *o, const char *who);

/* Where a description comes from, and how much memory its objects may claim. */
typedef struct nfi_origin {
    const char *who, *path; /* for messages; path is NULL if there is no file */
    const nf_types *types;
    size_t n_numbers;    /* the result of nf_read_n_numbers */
    size_t most_numbers; /* parameters, or numbers of state, that all objects together may have */
} nfi_origin;

/* Builds the object that a description describes. NULL on NF_EFORMAT, NF_ENOMEM. */
nf_object *nfi_rebuild(const struct json_t *description, const nfi_origin *from);

#endif
