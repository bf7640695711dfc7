/* Memory: the only file that calls malloc is memory.c, so that tests can fail each allocation in turn. */
#ifndef NFI_MEMORY_H
#define NFI_MEMORY_H
#include <nflow/object.h>

/* count * size bytes of zeros, aligned to 64; NULL with a message when out of memory or on overflow. count 0 gives a
   valid pointer. */
void *nfi_calloc(size_t count, size_t size);
/* The same, not initialised. */
void *nfi_alloc(size_t count, size_t size);
void nfi_free(void *p);
/* a + b and a * b into *out; false on overflow. */
bool nfi_add(size_t a, size_t b, size_t *out);
bool nfi_mul(size_t a, size_t b, size_t *out);

/* A chunked bump allocator. Chunks grow, are never moved, and are kept until nfi_arena_clear. */
enum { NFI_MAX_CHUNKS = 48 };
struct nf_arena {
    unsigned char *chunk[NFI_MAX_CHUNKS];
    size_t size[NFI_MAX_CHUNKS];
    size_t n_chunks; /* allocated */
    nf_mark end;     /* the first free byte */
};
void nfi_arena_clear(nf_arena *a);         /* frees all; a zeroed struct is an empty arena */
size_t nfi_arena_bytes(const nf_arena *a); /* held */
size_t nfi_arena_used(const nf_arena *a);  /* up to the present end */

/* n zeros from an arena; NULL when out of memory. */
static inline double *nfi_zero_doubles(nf_arena *a, size_t n)
{
    double *v = nf_arena_alloc(a, n * sizeof *v);
    for (size_t i = 0; v && i < n; i++)
        v[i] = 0;
    return v;
}

#endif
