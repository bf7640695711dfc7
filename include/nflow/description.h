/**
 * @file description.h
 * Descriptions: the JSON text that model files contain and nf_describe() gives, and how a type writes and reads its
 * fields.
 *
 * The description of an object is a JSON object with these members:
 *
 *     kind       "net", "flow", "dist" or "vae"
 *     type       the type's name
 *     dim_in     features of x, as in nf_shape
 *     dim_out    features of y
 *     n_ctx      features of context
 *     fields     an object: what the type's `describe` hook has written
 *     children   an array of descriptions
 *
 * The library always writes all of them. A description that is written by hand needs `kind` and `type`, and the two
 * dimensions of a net. The other members may be left out, which means: no fields, no children, no context, and
 * dimensions that follow from the children or the fields. If the type of a flow or a distribution needs dim_in or
 * dim_out and only the other one is given, the library takes the given one for both. A field that stands for an option
 * with a default (a member of an options struct, "box" of a spline say) may be left out and then has its default.
 * Members and fields that nobody reads are refused, so that a misspelt name is found.
 */
#ifndef NFLOW_DESCRIPTION_H
#define NFLOW_DESCRIPTION_H
#include <nflow/object.h>
NF_BEGIN_DECLS

/** Writes an integer field of the object that is being described. An object may use each name once. */
NF_API NF_CHECKED nf_status nf_write_integer(nf_writer *w, const char *name, uint64_t value);
/** Writes true or false. */
NF_API NF_CHECKED nf_status nf_write_bool(nf_writer *w, const char *name, bool value);
/**
 * Writes one of several choices (the value of an enumeration) by its name.
 * @param n number of names
 * @param names [n]; names[k] is the name of value k
 * @return NF_EARG also if value is n or more.
 */
NF_API NF_CHECKED nf_status nf_write_choice(nf_writer *w, const char *name, size_t n, const char *const *names,
                                            size_t value);
/** Writes an array of n_values choices, each by one of the n names. */
NF_API NF_CHECKED nf_status nf_write_choices(nf_writer *w, const char *name, size_t n, const char *const *names,
                                             size_t n_values, const size_t *values);
/** Writes a real number (17 digits). */
NF_API NF_CHECKED nf_status nf_write_number(nf_writer *w, const char *name, double value);
/** Writes an array of n non-negative integers. */
NF_API NF_CHECKED nf_status nf_write_integers(nf_writer *w, const char *name, size_t n, const size_t *values);
/** Writes an array of n real numbers (17 digits). */
NF_API NF_CHECKED nf_status nf_write_numbers(nf_writer *w, const char *name, size_t n, const double *values);

/**
 * Whether there is such a field. A `rebuild` hook calls this for a field that may be left out. The hook must ask for,
 * or read, every field that there is, because fields that nobody asked for are refused.
 */
NF_API bool nf_read_has(nf_reader *r, const char *name);
/** Reads a field back; NF_EFORMAT if it is missing or of another kind. */
NF_API NF_CHECKED nf_status nf_read_integer(nf_reader *r, const char *name, uint64_t *value);
/** Reads true or false back. */
NF_API NF_CHECKED nf_status nf_read_bool(nf_reader *r, const char *name, bool *value);
/**
 * Reads a choice back: *value becomes the index of the field's name among names [n].
 * @return NF_EFORMAT if the field is missing or is none of the names; the message has the name that was found and the
 * known ones. If there is a number instead of a name, the file is from a version before choices had names, and the
 * message says so.
 */
NF_API NF_CHECKED nf_status nf_read_choice(nf_reader *r, const char *name, size_t n, const char *const *names,
                                           size_t *value);
/** Reads exactly n_values choices back, each one of the n names. NF_EFORMAT as in nf_read_choice(). */
NF_API NF_CHECKED nf_status nf_read_choices(nf_reader *r, const char *name, size_t n, const char *const *names,
                                            size_t n_values, size_t *values);
/** Reads a real number back. */
NF_API NF_CHECKED nf_status nf_read_number(nf_reader *r, const char *name, double *value);
/** The length of an array, 0 if it is missing. */
NF_API size_t nf_read_length(nf_reader *r, const char *name);
/** Reads exactly n integers back; NF_EFORMAT if there are not n. */
NF_API NF_CHECKED nf_status nf_read_integers(nf_reader *r, const char *name, size_t n, size_t *values);
/** Reads exactly n real numbers back; NF_EFORMAT if there are not n. */
NF_API NF_CHECKED nf_status nf_read_numbers(nf_reader *r, const char *name, size_t n, double *values);
/**
 * nf_read_dim_in(), nf_read_dim_out() and nf_read_n_ctx() give the base-side and target-side dimensions and the
 * number of features of context as the file has them. They have not been checked. 0 if they are left out. Of a flow or
 * a distribution, if only one of dim_in and dim_out is given, it serves for both.
 */
NF_API size_t nf_read_dim_in(nf_reader *r);
/** See nf_read_dim_in(). */
NF_API size_t nf_read_dim_out(nf_reader *r);
/** See nf_read_dim_in(). */
NF_API size_t nf_read_n_ctx(nf_reader *r);
/**
 * How many parameters the file has. No object may need more, which is checked before memory is taken for its structure.
 * In nf_rebuild() there is no file: then this is 2^22, a bound for structures whose size does not follow from the
 * length of the description.
 */
NF_API size_t nf_read_n_numbers(nf_reader *r);
/**
 * Whether the description is that of a model file, and not a text (nf_rebuild()). Where a version of the library has
 * added a field to a type, older files do not have it and must mean what they meant, whereas a text without the field
 * means the present default.
 */
NF_API bool nf_read_is_file(nf_reader *r);
/** The number of children in the file. */
NF_API size_t nf_read_n_children(nf_reader *r);
/** Child i, already rebuilt, as a new reference. NULL if there is none. */
NF_API nf_object *nf_read_child(nf_reader *r, size_t i);

NF_END_DECLS
#endif
