/* See vec_loops.h. VEC_SET is the instruction set that this is compiled for. */
#include "vec_loops.h"
#include "math/vec.h"

#define LOOP(type, name, f)                                   \
    static void name##_loop(size_t n, const type *x, type *y) \
    {                                                         \
        NFI_SIMD                                              \
        for (size_t i = 0; i < n; i++)                        \
            y[i] = f(x[i]);                                   \
    }
#define REAL_LOOP(name) LOOP(nf_real, name, nfi_##name)
VEC_FUNCTIONS(REAL_LOOP)
LOOP(double, sin2pi, nfi_sin2pi_d)
LOOP(double, cos2pi, nfi_cos2pi_d)

#define JOINED(a, b) a##b
#define LOOPS_OF(set) JOINED(vec_loops_, set)
#define TEXT(word) #word
#define NAME_OF(set) TEXT(set)
#define ENTRY(name) [VEC_##name] = name##_loop,

const vec_loops LOOPS_OF(VEC_SET) = {
    .set = NAME_OF(VEC_SET), .of = {VEC_FUNCTIONS(ENTRY)}, .sin2pi = sin2pi_loop, .cos2pi = cos2pi_loop};
