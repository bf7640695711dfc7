/* JSON as text in files and descriptions. */
#ifndef NFI_JSON_TEXT_H
#define NFI_JSON_TEXT_H
#include <nflow/base.h>

struct json_t;
/* Writes JSON as 0-terminated text, padded with spaces to a multiple of `alignment`. *text belongs to the caller
   (nfi_free). `flags` are Jansson's. NF_ENOMEM. */
nf_status nfi_json_text(const struct json_t *json, size_t flags, size_t alignment, const char *who, char **text,
                        size_t *length);

#endif
