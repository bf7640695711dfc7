/**
 * @file stan.h
 * Stan models as targets: libraries that BridgeStan has compiled (bridgestan.compile_model("eight_schools.stan") in
 * Python, `make eight_schools_model.so` in its folder). Such a library is opened when the program runs; nflow is built
 * without Stan.
 */
#ifndef NFLOW_STAN_H
#define NFLOW_STAN_H
#include <nflow/target.h>
NF_BEGIN_DECLS

/** Options of nf_target_stan; NULL or zeros mean the defaults. */
typedef struct nf_stan_options {
    unsigned seed; /**< of the random numbers that the model draws: in transformed data when it is made, and
                      in generated quantities */
    bool transformed_parameters; /**< whether the outputs have the transformed parameters, after the parameters */
    bool generated_quantities;   /**< whether the outputs have the generated quantities, as the last ones */
    /**
     * Gets what the model's print statements print: `size` bytes, without a final 0; from any thread that evaluates the
     * target, one call at a time. NULL: nothing is printed. This is a setting of the model's library, not of one
     * target: the last target of a library decides. Versions of BridgeStan that do not have it print to the standard
     * output.
     */
    void (*print)(const char *text, size_t size);
} nf_stan_options;

/**
 * The log density of a Stan model on the unconstrained scale, with the Jacobian of its constraints and with all
 * constants, so that an ELBO of it bounds the model's log evidence. The outputs are the parameters on their own scale,
 * under the names of Stan's CSV files ("theta.1", "Sigma.2.1"); see nf_stan_options for more of them.
 *
 * A point at which the model fails (a reject statement, a scale that is infinite) is rejected, and
 * nf_target_rejection() has the model's own message. So is one with a log density that is NaN or -infinity. Outputs
 * that the model cannot compute are NaN. Generated quantities draw from a stream that begins with the seed at each call
 * of nf_target_outputs().
 *
 * Threads: a library that was compiled with STAN_THREADS=true is NF_THREADSAFE, any other is NF_SERIAL. All libraries
 * of a process must have the same setting, since they share Stan's memory for derivatives. The library stays open until
 * the process ends.
 * @param library path of the shared library; without a slash, in the present folder. BridgeStan 2.0 or later
 * @param data    the model's data: a path that ends in ".json", JSON text, or NULL if the model has none
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (`library` NULL; `data` that is something else; a model without parameters), NF_EIO (the
 * library or the file of data cannot be opened), NF_EFORMAT (no BridgeStan library: the message says which function is
 * missing), NF_EUNSUPPORTED (another major version of BridgeStan), NF_ETARGET (the model refuses its data: the message
 * is the model's), NF_ENOMEM.
 */
NF_API nf_target *nf_target_stan(const char *library, const char *data, const nf_stan_options *options);

NF_END_DECLS
#endif
