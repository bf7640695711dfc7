/* Pictures of posteriors: for each model of a list draws of the fit over reference draws (overlay.h), and a sheet that
   has two outputs of each. */
#ifndef EXAMPLES_BAYES_GALLERY_H
#define EXAMPLES_BAYES_GALLERY_H
#include <nflow/inference.h>

/* Fits the models, and writes FOLDER/MODEL.png for each and FOLDER/posteriors.png, the sheet. One line for each fit is
   printed. only: this model alone, and no sheet; NULL: all. data: as for bayes_target(). Exits 1 with one line on
   failure; after Ctrl-C it returns at once. */
void bayes_gallery(const char *folder, const char *only, const char *data, const nf_vi_options *options);

#endif
