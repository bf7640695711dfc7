/* Which types a model file may name: the library's own types and those of the caller. */
#ifndef NFI_TYPES_H
#define NFI_TYPES_H
#include "object/tree.h"
#include "dist/types.h"
#include "flows/constraints/types.h"
#include "flows/types.h"
#include "nn/types.h"
#include <nflow/model.h>

nf_vae *nfi_vae_rebuild(nf_reader *r);

/* The name and the kind of the library's type number i, in no particular order, but the VAE is the last. NULL past the
   end. */
const char *nfi_type_name(size_t i, nfi_kind *kind);
/* The options of a type, whose table of hooks is in this library's size; NULL: it has none. */
const nf_option_table *nfi_options_of(nfi_kind kind, const void *type);
/* Those of type number i; the recipes, which make flows of several types, are in nfi_recipe_options(). */
const nf_option_table *nfi_type_options(size_t i);
/* Calls the rebuild hook of the type of that kind and name; the caller's types come first. NULL with NF_EFORMAT if
   there is no such type, or with the hook's own error. */
nf_object *nfi_rebuild_type(const char *kind, const char *name, const nf_types *types, nf_reader *r);

#endif
