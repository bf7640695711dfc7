/* Memory. memory.c is the only file that calls malloc, so that tests can let each allocation fail in turn. */
#ifndef NFI_MEMORY_H
#define NFI_MEMORY_H
#include <nflow/object.h>

/* count * size bytes of zeros, aligned to 64 bytes. NULL, with a message, when memory is short or the size overflows.
   If count is 0, the result is still a valid pointer. */
void *nfi_calloc(size_t count, size_t size);
void nfi_free(void *p);
/* Write a + b and a * b to *out; return false on overflow. */
bool nfi_add(size_t a, size_t b, size_t *out);
bool nfi_mul(size_t a, size_t b, size_t *out);

/* An allocator that takes pieces one after the other from chunks. Each new chunk is larger than the one before. Chunks
   are never moved, and are kept until nfi_arena_clear. */
enum { NFI_MAX_CHUNKS = 48 };
struct nf_arena {
    unsigned char *chunk[NFI_MAX_CHUNKS];
    size_t size[NFI_MAX_CHUNKS];
    size_t n_chunks; /* chunks allocated */
    nf_mark end;     /* where the next piece begins */
};
void nfi_arena_clear(nf_arena *a);         /* frees all chunks; a zeroed struct is an empty arena */
size_t nfi_arena_bytes(const nf_arena *a); /* bytes in all chunks */
size_t nfi_arena_used(const nf_arena *a);  /* bytes up to the present end */

/* Where a pass writes what its vector-Jacobian product reads: on the tape, or on scratch if it has no tape, since then
   no gradient will be asked for. Mark scratch before, and rewind it at the end: what is on the tape stays. */
static inline nf_arena *nfi_saving_arena(const nf_pass *p)
{
    return p->tape ? p->tape : p->scratch;
}

/* n zeros from an arena; NULL when out of memory. */
static inline double *nfi_zero_doubles(nf_arena *a, size_t n)
{
    double *v = nf_arena_alloc(a, n * sizeof *v);
    for (size_t i = 0; v && i < n; i++)
        v[i] = 0;
    return v;
}

#endif
