/* The pictures of `flow_vae`: learning curves, reconstructions, draws from the prior. */
#ifndef EXAMPLES_VAE_PICTURES_H
#define EXAMPLES_VAE_PICTURES_H
#include "images.h"

/* ELBO by update: (update, training's running mean, validation). */
typedef struct curve {
    size_t n;
    double point[128][3];
} curve;

enum { VAE_PICTURES = 3 };
/* Where the k-th of them goes. */
void vae_picture_path(const char *prefix, size_t k, char path[4096]);
/* Draws all; no curves if there are no points. */
void vae_pictures(const char *prefix, const nf_model *m, nf_workspace *ws, const images *d, const curve *c,
                  uint64_t seed);

#endif
