/* Words for nf_family on command lines, in reports and in tables. */
#ifndef TOOLS_FAMILIES_H
#define TOOLS_FAMILIES_H
#include <nflow/inference.h>

/* The values of an option, in the order of nf_family. */
#define FAMILIES "ladder|mean-field|low-rank|full-rank|planar|radial|sylvester|iaf|realnvp|nsf|ffjord|residual"
enum { N_FAMILIES = NF_FAMILY_RESIDUAL + 1 };

/* The word of a family, to be released by free(). */
char *family_word(nf_family family);

#endif
