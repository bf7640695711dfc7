/* The toy data of the examples: rows and densities belong to each other, densities are normalised, entropies agree. */
#include "toy_data.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 20000, SIDE = 12, CUT = 24 }; /* [-6, 6]^2: cells of side 1, each cut into CUT^2 squares */

Test(toys, a_row_is_a_function_of_its_number)
{
    for (size_t toy = 0; toy < N_TOYS; toy++) {
        nf_real all[2 * 700], some[2 * 90], other[2 * 90];
        toy_rows(toy, 5, 0, 700, all);
        toy_rows(toy, 5, 411, 90, some);
        toy_rows(toy, 6, 411, 90, other);
        cr_assert(memcmp(all + 2 * 411, some, sizeof some) == 0, "%s", toy_names[toy]);
        cr_assert(memcmp(other, some, sizeof some) != 0, "%s", toy_names[toy]);
    }
}

/* Each cell's share of the density and of the rows. With 144 cells the sum of (seen - expected)^2 / expected has mean
   143 and deviation 17, if few cells are nearly empty. */
Test(toys, rows_follow_the_density)
{
    for (size_t toy = 0; toy < N_TOYS; toy++) {
        static nf_real x[2 * ROWS];
        double seen[SIDE * SIDE] = {0}, mass = 0, misfit = 0, rare = 0, rare_seen = 0;
        toy_rows(toy, 11, 0, ROWS, x);
        for (size_t i = 0; i < ROWS; i++) {
            const double a = floor(x[2 * i] + SIDE / 2), b = floor(x[2 * i + 1] + SIDE / 2);
            cr_assert(a >= 0 && a < SIDE && b >= 0 && b < SIDE, "%s: (%g, %g)", toy_names[toy], (double)x[2 * i],
                      (double)x[2 * i + 1]);
            seen[(int)a * SIDE + (int)b]++;
        }
        for (size_t cell = 0; cell < SIDE * SIDE; cell++) {
            nf_real at[2 * CUT * CUT];
            double log_p[CUT * CUT], share = 0;
            for (size_t i = 0; i < CUT * CUT; i++) {
                at[2 * i] = NF_R((double)(cell / SIDE) - SIDE / 2 + ((double)(i / CUT) + 0.5) / CUT);
                at[2 * i + 1] = NF_R((double)(cell % SIDE) - SIDE / 2 + ((double)(i % CUT) + 0.5) / CUT);
            }
            toy_log_density(toy, CUT * CUT, at, log_p);
            for (size_t i = 0; i < CUT * CUT; i++)
                share += exp(log_p[i]) / (CUT * CUT);
            mass += share;
            const double expected = ROWS * share;
            if (expected > 5) {
                misfit += (seen[cell] - expected) * (seen[cell] - expected) / expected;
            } else {
                rare += expected;
                rare_seen += seen[cell];
            }
        }
        cr_assert_float_eq(mass, 1, 2e-6, "%s: %.9f", toy_names[toy], mass);
        cr_assert_lt(misfit, 143 + 4 * 17, "%s: %g", toy_names[toy], misfit);
        cr_assert_lt(fabs(rare_seen - rare), 4 * sqrt(rare + 1), "%s: %g of %g", toy_names[toy], rare_seen, rare);
    }
}

Test(toys, entropies)
{
    for (size_t toy = 0; toy < N_TOYS; toy++) {
        static nf_real x[2 * ROWS];
        static double log_p[ROWS];
        toy_rows(toy, 12, 0, ROWS, x);
        toy_log_density(toy, ROWS, x, log_p);
        double sum = 0, squares = 0;
        for (size_t i = 0; i < ROWS; i++) {
            sum += log_p[i] / ROWS;
            squares += log_p[i] * log_p[i] / ROWS;
        }
        const double entropy = toy_entropy(toy), se = sqrt((squares - sum * sum) / ROWS);
        cr_assert_lt(fabs(entropy + sum), 4 * se + 1e-6, "%s: %g, by rows %g +- %g", toy_names[toy], entropy, -sum, se);
    }
    cr_assert_float_eq(toy_entropy(CHECKERBOARD), log(32), 1e-6);
    /* of eight normals that hardly overlap, in closed form; what they share is below 0.01 */
    const double apart = log(8) + 1 + log(2 * 3.14159265358979323846 * 0.125);
    cr_assert(toy_entropy(EIGHT_GAUSSIANS) < apart && toy_entropy(EIGHT_GAUSSIANS) > apart - 0.01, "%g, apart %g",
              toy_entropy(EIGHT_GAUSSIANS), apart);
}
