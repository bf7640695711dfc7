/**
 * @file gsl.h
 * The library's noise as a GSL random number generator. Not part of nflow.h: include it where GSL is used.
 */
#ifndef NFLOW_GSL_H
#define NFLOW_GSL_H
#include <gsl/gsl_rng.h>
#include <nflow/noise.h>
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

NF_END_DECLS
#endif
