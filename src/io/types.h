/* Which types a model file may name: the library's own and the caller's. */
#ifndef NFI_TYPES_H
#define NFI_TYPES_H
#include "core/tree.h"
#include "dist/types.h"
#include "flows/types.h"
#include "nn/types.h"
#include <nflow/model.h>

nf_vae *nfi_vae_rebuild(nf_reader *r);

/* The key of a kind in model files: "net", "flow", "dist", "vae". */
const char *nfi_kind_name(nfi_kind kind);
/* The library's types, and their kinds, in no particular order; VAEs are the last one. NULL past the end. */
const char *nfi_type_name(size_t i, nfi_kind *kind);
/* Calls the rebuild hook of the type of that kind and name, the caller's types first. NULL with NF_EFORMAT if there is
   none, or what the hook left. */
nf_object *nfi_rebuild_type(const char *kind, const char *name, const nf_types *types, nf_reader *r);

#endif
