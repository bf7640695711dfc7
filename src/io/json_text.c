/* See json_text.h. */
#include "io/json_text.h"
#include "base/memory.h"
#include <jansson.h>
#include <string.h>

nf_status nfi_json_text(const struct json_t *json, size_t flags, size_t alignment, const char *who, char **text,
                        size_t *length)
{
    size_t n = json_dumpb(json, NULL, 0, flags);
    *text = NULL;
    if (!n)
        return nf_error(NF_ENOMEM, "%s: no memory for the JSON text", who);
    *length = (n + alignment - 1) / alignment * alignment;
    *text = nfi_calloc(*length + 1, 1);
    if (!*text)
        return NF_ENOMEM;
    memset(*text, ' ', *length);
    json_dumpb(json, *text, n, flags);
    return NF_OK;
}
