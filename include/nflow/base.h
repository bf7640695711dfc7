/**
 * @file base.h
 * What all other headers need: the number type, status codes and error messages.
 *
 * The same sources are built twice. `nflow` computes in double; `nflowf` is built with NF_SINGLE and computes in float.
 * A program that defines NF_SINGLE (pkg-config nflowf does) uses the same names, but a generated header renames the
 * symbols. Therefore a program that was compiled for one precision does not link with the library of the other.
 */
#ifndef NFLOW_BASE_H
#define NFLOW_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef NF_SINGLE
typedef float nf_real; /**< the number type of parameters and samples */
#include <nflow/rename_f32.h>
#else
typedef double nf_real; /**< the number type of parameters and samples */
#endif

/** A literal in the library's precision, without conversion warnings: NF_R(0.5). */
#define NF_R(x) ((nf_real)(x))

/**
 * @name Options
 * Zero means the default, in every struct of options of the library. Where 0, or "none", is a sensible value and not
 * the default, two constants ask for it: NF_ZERO in an option that is a real number, NF_NONE in one that is a count.
 * The comment of an option says if it takes them. An enumeration whose default depends on the place where it stands has
 * a value NF_..._DEFAULT, which is 0. An array comes with its length, `hidden` with `n_hidden`: an array whose length
 * is 0 is an error, since its length was forgotten. Where no items are meant, leave out the array, or set the length to
 * NF_NONE.
 * @{
 */
#define NF_ZERO (-1.0)   /**< asks for 0 in a real option whose default is another number */
#define NF_NONE SIZE_MAX /**< asks for none in a count whose default is another number */
/** @} */

#ifdef __cplusplus
#define NF_BEGIN_DECLS extern "C" {
#define NF_END_DECLS }
#else
#define NF_BEGIN_DECLS
#define NF_END_DECLS
#endif

#if defined(__GNUC__)
#define NF_API __attribute__((visibility("default")))
#define NF_CHECKED __attribute__((warn_unused_result))
#else
#define NF_API
#define NF_CHECKED
#endif

/**
 * Every status: name, value, text. Values never change; new ones are appended. NF_EARG: an argument is NULL or 0 where
 * something is needed, or is out of range. NF_EDIM: two shapes do not agree. NF_ESTALE: see nf_model_update().
 */
#define NF_STATUS_LIST(X)                                                       \
    X(NF_OK, 0, "success")                                                      \
    X(NF_EARG, 1, "invalid argument")                                           \
    X(NF_EDIM, 2, "dimensions do not match")                                    \
    X(NF_ENOMEM, 3, "out of memory")                                            \
    X(NF_EFORMAT, 4, "damaged or unknown file format")                          \
    X(NF_EIO, 5, "input or output failed")                                      \
    X(NF_ENOTFINITE, 6, "result is not finite")                                 \
    X(NF_ENOCONV, 7, "iteration did not converge")                              \
    X(NF_ESTOP, 8, "stopped by a callback")                                     \
    X(NF_EUNSUPPORTED, 9, "operation is not supported by this object or build") \
    X(NF_ETARGET, 10, "the target's callback reported a fatal error")           \
    X(NF_ESTALE, 11, "the parameters have changed since the last nf_model_update()")

/** What a function returns: NF_OK, or the kind of failure. */
typedef enum nf_status {
#define NF_STATUS_ENUM(name, value, text) name = value,
    NF_STATUS_LIST(NF_STATUS_ENUM)
#undef NF_STATUS_ENUM
} nf_status;

NF_BEGIN_DECLS

/** The fixed English text of a status; "unknown status" for any other number. Never NULL; owned by the library. */
NF_API const char *nf_status_text(nf_status status);

/**
 * The message of this thread's last error, from the function where the error began. It has function, argument, and both
 * shapes if shapes disagree. A success does not change the message. A whole model can be one expression that is checked
 * once: a constructor that is passed a NULL object keeps the message and puts before it which of its arguments is NULL,
 *
 *     nf_chain: part 1 is NULL (the last error before this call: nf_planar: `dim` is 0)
 *
 * and the status stays. "The last error" is the thread's; it is not the reason if the program has passed a NULL of its
 * own. Owned by the library, and valid until the thread's next error; "" before the first.
 */
NF_API const char *nf_error_message(void);

/**
 * The status that belongs to nf_error_message(), NF_OK before the first error. It is for constructors, which return
 * NULL.
 */
NF_API nf_status nf_error_status(void);

/**
 * For callbacks and users' own layers: sets the thread's error message (printf style, at most 511 characters) and
 * returns `status`, so that `return nf_error(NF_EDIM, "my_layer: ...")` is one line.
 */
NF_API nf_status nf_error(nf_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/** The library's version, "major.minor.patch". Owned by the library. */
NF_API const char *nf_version(void);

/**
 * The instruction set whose kernels the library runs: "sse2", "avx2" or "avx512" on x86-64, "neon" on aarch64,
 * "generic" elsewhere. The library chooses at its first use: the set that the environment variable NFLOW_ISA names, if
 * the library has it and the processor can run it; otherwise the best set that it was built for and that the processor
 * has. Results of avx2 and avx512 are equal bit for bit; those of the other sets differ from them by rounding. Each of
 * the two libraries, nflow and nflowf, makes its own choice. Never NULL; owned by the library.
 */
NF_API const char *nf_instruction_set(void);

/**
 * Chooses another instruction set, to test or to measure it. NULL: the best. Do not call this while other threads
 * compute.
 * @return NF_EARG (a set that the library was not built for), NF_EUNSUPPORTED (this processor does not have the set).
 * An error leaves the choice as it was.
 */
NF_API nf_status nf_choose_instruction_set(const char *name);

NF_END_DECLS
#endif
