/* One case of the conformance suite computed by either library, its numbers in double: what test_precision compares,
   and test_agreement. both.c is compiled twice, once against each library. */
#ifndef CONFORMANCE_BOTH_H
#define CONFORMANCE_BOTH_H
#include <stdbool.h>
#include <stddef.h>

enum { X, CTX, THETA, GY, G_L, Y, LOG_DET, GX, G_CTX, G_THETA, N_ARRAYS };
enum { N_INPUTS = Y };

typedef struct both_case {
    size_t row, dim;
    int guise, direction;
    size_t size[N_ARRAYS];
    double *array[N_ARRAYS];
} both_case;

/* Outputs, allocated by malloc, from c's inputs, or, if `draw`, from inputs that it draws and allocates as well; 0
   where the row has no such case. */
int case_in_float(both_case *c, bool draw);
int case_in_double(both_case *c, bool draw);

/* Of the double build, or of the only one (ONE_PRECISION). */
size_t both_n_rows(void);
size_t both_n_dims(void);
int both_n_guises(void);
/* What multiplies the row's tolerances: more than 1 where a row is badly conditioned. */
double both_slack(const both_case *c);
const char *both_row_name(size_t row);
/* "planar, 5 dimensions, shared, inverse". */
const char *both_title(const both_case *c);

#endif
