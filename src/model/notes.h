/* The notes of a model: what a caller wants to keep with it. */
#ifndef NFI_NOTES_H
#define NFI_NOTES_H
#include <nflow/model.h>

/* One block of memory has the list, sorted by key, and all texts. */
typedef struct nfi_notes {
    size_t n;
    nf_note *list; /* [n]; NULL before the first note */
} nfi_notes;

/* As nf_model_set_notes. `kind` is the status of a note that is refused: NF_EARG for a caller's, NF_EFORMAT for a
   file's. */
nf_status nfi_notes_set(nfi_notes *notes, size_t n, const nf_note *more, const char *who, nf_status kind);
void nfi_notes_free(nfi_notes *notes);

#endif
