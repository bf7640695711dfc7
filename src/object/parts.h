/* Who owns an object. A reference belongs either to a caller or to what has consumed it: a larger object, of which the
   object is a part, or a model. Both are counted, so that a constructor can tell whether its caller has the reference
   that it is about to consume. */
#ifndef NFI_PARTS_H
#define NFI_PARTS_H
#include "object/tree.h"

/* Whether a constructor can have its parts: none is NULL, and the caller owns a reference to each, to a part that
   occurs twice two. If not, there is a message that begins with `who`, and the references that the caller does own are
   released, as constructors do on failure. name [n] are the arguments' names; NULL: the parts are a list. */
bool nfi_parts_given(const char *who, size_t n, nf_object *const *part, const char *const *name);
/* The same, and the references are then no longer the caller's, until nfi_parts_drop. */
bool nfi_parts_take(const char *who, size_t n, nf_object *const *part, const char *const *name);
/* Gives back references that nfi_parts_take took, and destroys the objects to which there are no others. */
void nfi_parts_drop(size_t n, nf_object *const *part);
/* Keeps an object alive until nfi_parts_drop. */
void nfi_part_hold(nf_object *o);
/* Releases the caller's references to the parts of a constructor that fails: as many as it owns and not more. A part
   may be NULL. */
void nfi_parts_release(size_t n, nf_object *const *part);

#endif
