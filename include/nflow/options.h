/**
 * @file options.h
 * Tables of options: for each option of a constructor its name, kind, default and range, said once.
 *
 * A table serves all who need the options: the constructor (nf_options_settle() fills in the defaults and checks the
 * ranges), descriptions and model files (nf_options_write(), nf_options_read()), and programs that read options from a
 * command line or list them. A type of a user's own takes part by a table and nf_flow_type.options:
 *
 *     static const nf_option options[] = {
 *         {NF_OPTION(NF_OPTION_SIZE, my_options, bins), .least = 2, .help = "pieces"},
 *         {NF_OPTION(NF_OPTION_REAL, my_options, box), .most = 1e9, .flags = NF_OPTION_ABOVE, .help = "half width"}};
 *     static const my_options defaults = {.bins = 8, .box = 3};
 *     static const nf_option_table table = NF_OPTION_TABLE("my_flow", my_options, options, &defaults);
 *
 * What a caller gives are requests: 0 stands for the default, NF_ZERO and NF_NONE for 0 (see base.h). Files and settled
 * structs have values: there 0 is 0.
 */
#ifndef NFLOW_OPTIONS_H
#define NFLOW_OPTIONS_H
#include <nflow/object.h>
NF_BEGIN_DECLS

/** The kinds of options, with the type of the member that holds them. */
typedef enum nf_option_kind {
    NF_OPTION_SIZE = 1, /**< a count, size_t */
    NF_OPTION_INTEGER,  /**< uint64_t, a seed say; every value stands for itself, but 0 for the default */
    NF_OPTION_REAL,     /**< double; NaN is out of range, and so are infinite numbers unless `most` is one */
    NF_OPTION_BOOL,     /**< bool; the default is always false */
    NF_OPTION_CHOICE,   /**< an enumeration, of the size of int */
    NF_OPTION_SIZES,    /**< const size_t *, with the number of items in another member, a size_t */
    NF_OPTION_REALS     /**< const double *, likewise */
} nf_option_kind;

/** Flags of an option, combined by OR. */
enum {
    NF_OPTION_ABOVE = 1u,    /**< `least` itself is out of range */
    NF_OPTION_BELOW = 2u,    /**< `most` itself is out of range */
    NF_OPTION_REQUIRED = 4u, /**< it has no default: a description without this field is refused */
    NF_OPTION_DEPENDS = 8u,  /**< 0 stays 0; what it stands for depends on other options: the constructor fills it in */
    /**
     * For an option that a later version adds to a table (not a list): descriptions have its field only where it is not
     * the default. So files that do not use the option are what they were before, and earlier versions read them.
     */
    NF_OPTION_ADDED = 16u
};

/** The names of an enumeration's values. */
typedef struct nf_choices {
    const char *what;         /**< what is chosen, for messages: "activation" */
    size_t n;                 /**< number of values */
    const char *const *names; /**< [n]; names[k] is that of value k. NULL: value k is no choice, but the default */
} nf_choices;

/** An option. Members that are left out are zero. */
typedef struct nf_option {
    const char *name;          /**< of the option, and of the field of descriptions */
    nf_option_kind kind;       /**< what sort of value it is */
    size_t offset;             /**< of the member that holds it, in its struct */
    size_t length;             /**< lists: the offset of the member that holds the number of items, a size_t */
    unsigned flags;            /**< NF_OPTION_ABOVE ... */
    double least;              /**< the least value; of lists, of each item */
    double most;               /**< the largest value, likewise; 0: there is no limit, but reals must be finite */
    const nf_choices *choices; /**< of NF_OPTION_CHOICE */
    const char *former;        /**< a former name of the field, which is still read; NULL: none */
    const char *help;          /**< a few words for a list of options */
    const void *reserved[4];   /**< for later versions; NULL */
} nf_option;

/** All options of a constructor. */
typedef struct nf_option_table {
    size_t abi;              /**< sizeof(nf_option_table); see nf_part */
    const char *function;    /**< the constructor, with whose name messages begin */
    size_t size;             /**< of the struct of options, in bytes */
    const void *defaults;    /**< such a struct with the default of every option; NULL: all are zero */
    size_t n;                /**< number of options */
    const nf_option *option; /**< [n] */
} nf_option_table;

/** The first members of an nf_option for the member of that name in the struct of that type. */
#define NF_OPTION(kind_, type_, member_) .name = #member_, .kind = (kind_), .offset = offsetof(type_, member_)
/** The first members for a list, whose number of items is the member `n_` and the list's name. */
#define NF_OPTION_LIST(kind_, type_, member_) NF_OPTION(kind_, type_, member_), .length = offsetof(type_, n_##member_)
/** An nf_option_table of an array of options. */
#define NF_OPTION_TABLE(function_, type_, options_, defaults_)                                                   \
    {                                                                                                            \
        .abi = sizeof(nf_option_table), .function = (function_), .size = sizeof(type_), .defaults = (defaults_), \
        .n = sizeof(options_) / sizeof *(options_), .option = options_                                           \
    }

/**
 * For constructors: copies the options that a caller gave, replaces requests (0, NF_ZERO, NF_NONE) by the values for
 * which they stand, and checks every range.
 * @param given   a struct of options; NULL: all defaults. Lists are not copied
 * @param settled a struct of the same type, written. It may be `given`. After an error its values are undefined
 * @return NF_EARG; the message has the table's function, the option, its value and its range.
 */
NF_API NF_CHECKED nf_status nf_options_settle(const nf_option_table *table, const void *given, void *settled);
/**
 * For `describe` hooks: writes each option of a settled struct as a field (but see NF_OPTION_ADDED). A type whose table
 * of hooks names its options and whose `self` begins with the settled struct needs no `describe` hook.
 */
NF_API NF_CHECKED nf_status nf_options_write(nf_writer *w, const nf_option_table *table, const void *settled);
/**
 * For `rebuild` hooks: reads the fields of all options. The result is a struct of options as a caller would give it to
 * the constructor: options whose fields are left out are 0, and fields that are 0 have become requests for 0.
 * @return the struct. It and its lists belong to the reader and are valid until the hook returns. NULL on NF_EFORMAT (a
 * field of another kind, a required one that is missing), NF_EARG (a value out of range), NF_ENOMEM.
 */
NF_API const void *nf_options_read(nf_reader *r, const nf_option_table *table);

NF_END_DECLS
#endif
