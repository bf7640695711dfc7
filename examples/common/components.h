/* Principal components of images. */
#ifndef EXAMPLES_COMPONENTS_H
#define EXAMPLES_COMPONENTS_H
#include <nflow/base.h>

/* Images in n numbers each: the first n - 1 principal components, and the logarithm of the distance from the plane that
   these span. All are standardised by the images that the components are of. */
typedef struct components {
    size_t n, dim;         /* dim: pixels */
    double *mean, *vector; /* [dim], [n - 1 x dim], orthonormal rows */
    double *shift, *scale; /* [n] */
} components;

/* Of m images x, [m x dim] bytes. n is from 2 to dim. Exits 1 if there is less than n - 1 in which images differ. */
components components_of(size_t n, size_t m, size_t dim, const unsigned char *x);
/* The n numbers of an image. */
void components_of_image(const components *c, const unsigned char *x, nf_real *y);
void components_free(components *c);

#endif
