/* Reference draws for a model that posteriordb does not have: Hamiltonian Monte Carlo in the coordinates of a fit
   (examples/neutra.c), whose draws are the posterior's own, however good or bad the fit. */
#ifndef EXAMPLES_CHAIN_REFERENCE_H
#define EXAMPLES_CHAIN_REFERENCE_H
#include "bayes_fit.h"

/* Gives the fit 8 x 1250 reference draws, and passes the gate with them. Returns the worst R-hat of the outputs. Exits
   1 with one line on failure, 130 after Ctrl-C. */
double chain_reference(bayes_fit *f, uint64_t seed);

#endif
