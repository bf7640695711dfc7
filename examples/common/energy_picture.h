/*
 * The picture of `energies`, in the manner of Rezende & Mohamed's figure 3: a row an energy, first the true density,
 * then the fitted ones, over [-4, 4] x [-4, 4].
 */
#ifndef EXAMPLES_ENERGY_PICTURE_H
#define EXAMPLES_ENERGY_PICTURE_H
#include "energy_targets.h"
#include <nflow/nflow.h>

typedef struct picture picture;

/* png NULL: returns NULL, and the other functions do nothing. A row has 1 + n panels. */
picture *picture_new(const char *png, size_t n_rows, size_t n);
/* Begins a row with the true density. */
void picture_row(picture *p, energy e);
/* The next panel of the row: the density of q, by nf_log_prob on a grid. */
void picture_panel(picture *p, const char *label, const nf_model *q);
/* Draws and releases. */
void picture_finish(picture *p);

#endif
