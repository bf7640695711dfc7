/* Jansson's memory, counted with the library's. */
#ifndef JSON_MEMORY_H
#define JSON_MEMORY_H
#include <jansson.h>
#include <stdlib.h>

static inline void *json_memory_take(size_t n)
{
    return aligned_alloc(16, (n + 15) / 16 * 16);
}

static inline void json_memory_give(void *p)
{
    free(p);
}

/* From now on alloc_live, alloc_bytes and alloc_peak see what Jansson takes, in blocks of 16 bytes. */
static inline void json_memory_count(void)
{
    json_set_alloc_funcs(json_memory_take, json_memory_give);
}

#endif
