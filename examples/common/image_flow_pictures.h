/* The pictures of `glow`: PNG files in a folder, whose pixels are those of the images. */
#ifndef EXAMPLES_IMAGE_FLOW_PICTURES_H
#define EXAMPLES_IMAGE_FLOW_PICTURES_H
#include "image_flow.h"
#include "image_sets.h"

/*
 *     samples.png          at this temperature, of latent vectors temperature x N(0, 1); with labels, one a column
 *     temperature.png      a row for each of 0.25, 0.5, 0.7, 0.8, 0.9 and 1, all of the same latent vectors
 *     interpolations.png   each row from a test image to another one of its label, along a line of latent vectors
 *     reconstructions.png  test images and, below each of them, what is left of it after both directions of the flow
 *     nearest.png          each row a sample and the training images that have the least Euclidean distance from it
 */
void image_flow_pictures(const image_flow *f, const image_sets *d, const char *folder, double temperature,
                         uint64_t seed);

#endif
