/* The functions of a library that BridgeStan has compiled: the C interface of its versions 2.x (bridgestan.h). */
#ifndef NFI_STAN_LIBRARY_H
#define NFI_STAN_LIBRARY_H
#include <nflow/base.h>

typedef struct bs_model bs_model;
typedef struct bs_rng bs_rng;

/* Functions return 0, or -1 with *error (unless `error` is NULL) to be freed by free_error_msg. A pointer that is NULL
   means the same. What would have been written is then left as it is. Texts of a model are the model's. */
typedef struct nfi_stan_library {
    int version[3]; /* major, minor, patch */
    bs_model *(*model_construct)(const char *data, unsigned seed, char **error);
    void (*model_destruct)(bs_model *m);
    void (*free_error_msg)(char *error);
    const char *(*model_info)(const bs_model *m);
    const char *(*param_names)(const bs_model *m, bool transformed, bool generated); /* "a.1,a.2,b" */
    int (*param_num)(const bs_model *m, bool transformed, bool generated);
    int (*param_unc_num)(const bs_model *m);
    /* The random numbers are needed if `generated`. */
    int (*param_constrain)(const bs_model *m, bool transformed, bool generated, const double *x, double *y, bs_rng *rng,
                           char **error);
    int (*log_density)(const bs_model *m, bool propto, bool jacobian, const double *x, double *log_p, char **error);
    int (*log_density_gradient)(const bs_model *m, bool propto, bool jacobian, const double *x, double *log_p,
                                double *grad, char **error);
    bs_rng *(*rng_construct)(unsigned seed, char **error);
    void (*rng_destruct)(bs_rng *rng);
    /* NULL where the version does not have it. */
    int (*set_print_callback)(void (*print)(const char *text, size_t size), char **error);
} nfi_stan_library;

/* Opens a library and finds its functions. Messages begin with `who`. The library is never closed: C++ has objects of
   each thread in it, which are destroyed when the thread ends. NF_EIO, NF_EFORMAT, NF_EUNSUPPORTED. */
nf_status nfi_stan_open(const char *who, const char *path, nfi_stan_library *lib);

#endif
