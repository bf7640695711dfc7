/* The functions of math/vec.h as loops over numbers, in every instruction set that the library is built for:
   vec_loops.c is compiled once for each. VEC_SETS(X), from meson.build, is X(set) for each, the least first. */
#ifndef VEC_LOOPS_H
#define VEC_LOOPS_H
#include <nflow/base.h>

typedef void vec_loop(size_t n, const nf_real *x, nf_real *y);
typedef void vec_double_loop(size_t n, const double *x, double *y);

/* X(name) for nfi_name. */
#define VEC_FUNCTIONS(X) X(exp) X(expm1) X(log) X(log1p) X(tanh) X(sigmoid) X(softplus) X(atan)
#define VEC_NUMBER(name) VEC_##name,
enum { VEC_FUNCTIONS(VEC_NUMBER) N_VEC_FUNCTIONS };
#undef VEC_NUMBER

typedef struct vec_loops {
    const char *set;
    vec_loop *of[N_VEC_FUNCTIONS];
    vec_double_loop *sin2pi, *cos2pi; /* in double in both precisions */
} vec_loops;

#define VEC_DECLARE(set) extern const vec_loops vec_loops_##set;
VEC_SETS(VEC_DECLARE)
#undef VEC_DECLARE

#endif
