/* The tables of options of all recipes, for programs that list them. */
#include "flows/types.h"

const nf_option_table *nfi_recipe_options(size_t i)
{
    size_t n = 0;
    while (nfi_vector_recipe_options(n))
        n++;
    return i < n ? nfi_vector_recipe_options(i) : nfi_image_recipe_options(i - n);
}
