/**
 * @file draws.h
 * Draws of a posterior in files: tables that Stan's tools, R and Python read (CSV, npy), and initial values for chains
 * of Stan's samplers (JSON).
 *
 * A file appears whole or not at all: if something fails, or if the machine crashes, an old file of that name stays as
 * it was. The same holds for nf_save(). Numbers have 17 significant digits, so that they are read back exactly, and a
 * decimal point in every locale.
 */
#ifndef NFLOW_DRAWS_H
#define NFLOW_DRAWS_H
#include <nflow/base.h>
NF_BEGIN_DECLS

/** Draws and what is known of them. Everything is borrowed. Always in double. */
typedef struct nf_draws {
    size_t n;         /**< draws, >= 1 */
    size_t n_outputs; /**< numbers of a draw, >= 1 */
    /**
     * [n_outputs], in Stan's style: "mu", "theta.1", "theta.2", "Sigma.1.1", "Sigma.2.1", ... They are not empty, are
     * all different, and have no comma, quote (") or control character. nf_target_output_name() gives such names.
     */
    const char *const *names;
    const double *values;     /**< [n x n_outputs], a draw a row */
    const double *log_p;      /**< [n], the target's log density at the draw, or NULL */
    const double *log_q;      /**< [n], the normalised log density with which it was drawn, or NULL */
    const double *log_weight; /**< [n], the log of its weight, of nf_psis() say, or NULL */
} nf_draws;

/**
 * Writes the draws as a CSV file in the layout of Stan's Pathfinder: comments, a line of names, a line for each draw.
 * The columns are lp_approx__ (log_q), lp__ (log_p) and log_weight__, each only if it is there, and then the values.
 * What is not finite is NaN, Inf or -Inf.
 *
 * Comments are lines "# key = value". The first four are method = pathfinder, which names the layout and lets CmdStanPy
 * read the file, num_draws, num_paths = 1 and nflow_version.
 * @param comments more of them, lines that end in "\n" but for the last, without "# "; CmdStanPy wants a line "model =
 *                 NAME" among them. NULL or "": none
 * @return NF_EARG (NULL, no draws or outputs, bad names; a comment with a control character), NF_EIO (the message has
 * the path), NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_save_draws_csv(const char *path, const nf_draws *draws, const char *comments);

/**
 * Writes the same columns as nf_save_draws_csv() as an npy file (numpy.load) of doubles, [n x columns] in C's order.
 * It has no names, and `names` may be NULL.
 * @return NF_EARG (NULL, no draws or outputs, more numbers than a size can count), NF_EIO, NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_save_draws_npy(const char *path, const nf_draws *draws);

/** The size of nf_npy_header(). */
enum { NF_NPY_HEADER = 128 /**< bytes */ };

/**
 * Makes the header of an npy file of doubles in C's order, for programs that write such a file row by row: the numbers
 * [n x columns] follow it in the file, in the byte order of this machine.
 * @param header [NF_NPY_HEADER], written; not a string
 */
NF_API void nf_npy_header(size_t n, size_t columns, char *header);

/**
 * Writes draws as initial values for chains of Stan, a JSON file for each chain: an object with a member for each
 * parameter. A name with numbers behind points is an element of an array: "theta.1" to "theta.8" become a list of 8
 * numbers, "Sigma.1.1", "Sigma.2.1", ... a list of rows. The elements of an array must follow each other, complete, the
 * first index running fastest (column-major order), as Stan and nf_target_output_name() order them. All outputs are
 * written; Stan ignores those that are no parameters. What is not finite is the string "NaN", "Inf" or "-Inf", as
 * Stan's JSON has it. Tuples ("a:1") are refused.
 * @param path   with one chain the file; with several chains of "inits.json" the files "inits_1.json", "inits_2.json",
 *               ... are written, where CmdStan looks for them if it is told init=inits.json
 * @param chains how many, at least 1
 * @param which  [chains], the draw of each chain; draws of nf_resample() with NF_RESAMPLE_DISTINCT are a good choice.
 *               NULL: the first ones
 * @return NF_EARG (NULL, no draws, outputs or chains, a draw that is not there, bad names, an array that is not
 * complete or not in order), NF_EUNSUPPORTED (tuples, more than 16 indices), NF_EIO, NF_ENOMEM. If a file cannot be
 * written, those before it are there.
 */
NF_API NF_CHECKED nf_status nf_save_inits(const char *path, const nf_draws *draws, size_t chains, const size_t *which);

NF_END_DECLS
#endif
