/**
 * @file gsl.h
 * The library's noise as a GSL random number generator, and GSL's functions to minimise as targets. Not part of
 * nflow.h: include it where GSL is used.
 */
#ifndef NFLOW_GSL_H
#define NFLOW_GSL_H
#include <gsl/gsl_multimin.h>
#include <gsl/gsl_rng.h>
#include <nflow/noise.h>
#include <nflow/target.h>
NF_BEGIN_DECLS

/**
 * Philox4x32-10 as a `gsl_rng_type`: gsl_rng_alloc(nf_gsl_philox()). gsl_rng_set(r, seed) starts the stream with key
 * `seed` and counter 0. With seed 0 the first word is Random123's known answer 0x6627e8d5. The state has no pointers,
 * so gsl_rng_clone and gsl_rng_fwrite work. The period is 2^130 words.
 */
NF_API const gsl_rng_type *nf_gsl_philox(void);

/**
 * Moves `r` to the start of the stream that `noise` names (seed, step, first_sample, site).
 * @return NF_EARG if `r` or `noise` is NULL, or if `r` is not of type nf_gsl_philox().
 */
NF_API NF_CHECKED nf_status nf_gsl_philox_seek(gsl_rng *r, const nf_noise *noise);

/**
 * A target from a function that GSL's minimisers take: f is minus the log density, up to a constant. Its fdf is called
 * where a gradient is wanted, and its f elsewhere, with vectors of stride 1; its df is not called. A value that is NaN
 * or infinite rejects the draw. GSL's error handler, which ends the program unless it is switched off, remains the
 * caller's.
 * @param f    copied, but not what its params point to, which must live longer than the target
 * @param rule NF_THREADSAFE if several threads may call the function at once
 * @return NULL on NF_EARG (`f`, or its f or fdf, is NULL; n is 0; an unknown rule), NF_ENOMEM.
 */
NF_API nf_target *nf_target_gsl_multimin(const gsl_multimin_function_fdf *f, nf_thread_rule rule);

NF_END_DECLS
#endif
