/* What the fuzz targets share: libFuzzer's interface, the input as a file, random numbers for mutators. */
#ifndef FUZZ_H
#define FUZZ_H
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A target defines the first one, and as a rule the second; libFuzzer (LLVM, "Structure-aware fuzzing") the third. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* A finding: ends the process with a line of why. */
#define FUZZ_MUST(condition, what)                                           \
    do                                                                       \
        if (!(condition)) {                                                  \
            fprintf(stderr, "FINDING: %s (%s)\n", what, nf_error_message()); \
            abort();                                                         \
        }                                                                    \
    while (0)

/* The bytes as a file in memory; its path, valid until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* Calls with a model; only that they end well is asked, since the numbers may be anything. */
void fuzz_compute(const nf_model *m);

/* Random numbers of a mutator. */
typedef struct fuzz_random {
    uint64_t state;
} fuzz_random;

static inline uint64_t fuzz_next(fuzz_random *r)
{
    uint64_t x = r->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* A number below n. */
static inline size_t fuzz_below(fuzz_random *r, size_t n)
{
    return (size_t)(fuzz_next(r) % n);
}

/* ---- JSON (json.c) ---- */

struct json_t;
/* Changes one or two values somewhere in *root: numbers, words, members, items, whole subtrees. */
void fuzz_json(struct json_t **root, fuzz_random *r);
/* An object that has been rebuilt: its description must rebuild to an object of the same description. */
void fuzz_describes_itself(const nf_object *o, const nf_types *types);

/* ---- gzip (gzip.c) ---- */

enum { FUZZ_UNPACKED = 1 << 22 }; /* of what mutators pack, the most bytes */

/* Unpacks gzip data, at most `room` bytes, and returns how many there are; 0 if the data are none. */
size_t fuzz_unpack(const uint8_t *data, size_t size, uint8_t *out, size_t room);
/* Packs bytes to some members with some padding; returns the size, 0 if `room` is too small. */
size_t fuzz_pack(const uint8_t *data, size_t size, uint8_t *out, size_t room, fuzz_random *r);
/* A mutator for inputs that may be gzip data: `change` mutates what is unpacked, of which there is room for `room`
   bytes, and returns its new size; about half of the results are packed. */
size_t fuzz_packed(uint8_t *data, size_t size, size_t max_size, fuzz_random *r,
                   size_t (*change)(uint8_t *file, size_t size, size_t room, fuzz_random *r));
/* The mutator of a target whose whole input is such a file. */
#define FUZZ_PACKED_MUTATOR(change)                                                            \
    size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) \
    {                                                                                          \
        return fuzz_packed(data, size, max_size, &(fuzz_random){seed}, change);                \
    }

/* ---- safetensors (container.c) ---- */

/* A safetensors file taken apart. */
typedef struct fuzz_container {
    struct json_t *header; /* a reference */
    uint8_t *data;         /* [n_data], malloc's */
    size_t n_data;
} fuzz_container;

/* false, with nothing to free, if the bytes are no such file. */
bool fuzz_take_apart(const uint8_t *file, size_t size, fuzz_container *c);
/* Gives every entry of the header the place in the data that its dtype and shape ask for, one after the other; data
   are repeated or cut to fit. Sometimes one entry has another number of bytes. */
void fuzz_settle(fuzz_container *c, fuzz_random *r);
/* Replaces the tensors by those that the architecture in the header asks for, if it is sound and small. */
void fuzz_fit_tensors(fuzz_container *c, fuzz_random *r);
/* Mutates the JSON that a string of the metadata holds. */
void fuzz_metadata(fuzz_container *c, const char *key, fuzz_random *r);
/* Writes a few numbers of the data: NaN, infinite, huge, tiny, or random ones. */
void fuzz_numbers(fuzz_container *c, fuzz_random *r);
/* Puts the file together; returns its size, 0 if `room` is too small. Frees what the container has. */
size_t fuzz_put_together(fuzz_container *c, uint8_t *file, size_t room);

#endif
