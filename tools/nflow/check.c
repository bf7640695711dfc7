/* nflow check: are a model's inverse, log-dets and gradients right? */
#include "commands.h"
#include "density.h"
#include "flows.h"
#include "output.h"
#include "plan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t family = FLOW_AUTO, dim, n_ctx, points = 16, layers, width;
static const char *json_path, *image_text;
static double scale = 1, noise = 0.03;
static uint64_t seed = 1;
static const cli_option options[] = {
    {"flow", FLOW_NAMES, "in place of a model: a new flow of this family", .choice = &family},
    {"dim", "D", "its features", .size = &dim, .max = 1e6},
    {"context", "N", "its features of context", .size = &n_ctx, .max = 1e6},
    {"image", "CxHxW", "of families of images, in place of --dim", .text = &image_text},
    {"layers", "N", "of the new flow; 0: by family", .size = &layers, .max = 1000},
    {"width", "N", "units of its nets' hidden layers; 0: by family", .size = &width, .max = 1e5},
    {"points", "N", "random points at which it is checked", .size = &points, .min = 1, .max = 1e6},
    {"scale", "S", "their standard deviation, in those of the data", .number = &scale, .min = 1e-6, .max = 1e6},
    {"parameter-noise", "S", "deviation of noise that is first added to a new flow's parameters", .number = &noise,
     .max = 10},
    {"seed", "S", "of points and parameters", .seed = &seed},
    {"json", "FILE", "write the results there", .text = &json_path},
    {0},
};

/* ---- what is checked ---- */

static nf_model *new_model(void)
{
    plan p = {.sizes = {.family = (flow_family)family,
                        .dim = dim,
                        .n_ctx = n_ctx,
                        .layers = layers,
                        .width = width,
                        .dropout = 0,
                        .seed = seed}};
    nf_image *image = &p.sizes.image;
    if (image_text) {
        *image = flow_image(image_text);
        p.sizes.dim = image->channels * image->height * image->width;
    } else if (flow_is_of_images((flow_family)family))
        cli_fail(2, "--flow %s needs --image CxHxW", flow_names[family]);
    if (!p.sizes.dim)
        cli_fail(2, "--dim D is missing");
    plan_complete(&p, 1000, 100);
    char *text = flow_description(&p.sizes);
    nf_model *m = cli_made(nf_model_of_object(cli_made(nf_rebuild(text, NULL)), &(nf_model_options){.seed = seed}));
    free(text);
    return m;
}

/* ---- results ---- */

typedef struct line {
    const char *what, *name;
    double error[2], limit; /* forward, inverse; NAN where it was not checked. limit 0: a figure, not an error */
} line;

static bool print_line(const line *l, js_file *j)
{
    bool passed = true;
    printf("%-46s", l->what);
    js_begin(j, l->name, '[');
    for (int k = 0; k < 2; k++) {
        if (isnan(l->error[k]))
            printf(" %12s", "-");
        else
            printf(" %12.3g", l->error[k]);
        js_number(j, NULL, l->error[k]);
        passed = passed && (l->limit <= 0 || isnan(l->error[k]) || l->error[k] <= l->limit);
    }
    js_end(j);
    puts(l->limit <= 0 ? "" : passed ? "   ok" : "   WRONG");
    return passed;
}

/* Whether there is a layer of that type in the tree. */
static bool has_layer(const nf_object *o, const char *type)
{
    bool found = strcmp(nf_object_name(o), type) == 0;
    for (size_t i = 0; i < nf_n_children(o); i++)
        found = found || has_layer(nf_child(o, i), type);
    return found;
}

/* Limits are for double precision; solvers of differential equations stop at tolerances of their own, 1e-5 by default.
   Log-dets grow with the number of features, and so do their errors. */
static bool print_report(const nf_check_report *r, const nf_object *o, js_file *j)
{
    const bool solver = has_layer(o, "continuous");
    const double inverse = solver ? 1e-3 : 1e-6, gradient = solver ? 1e-2 : 1e-4;
    const double log_det = (solver ? 1e-4 : 1e-8) * (1 + (double)nf_object_shape(o)->dim_out);
    const line lines[] = {
        {"inverse: |f^-1(f(x)) - x| / (1 + |x|)", "inverse_error", {r->inverse_error[0], r->inverse_error[1]}, inverse},
        {"log-det against a dense Jacobian", "log_det_error", {r->log_det_error[0], r->log_det_error[1]}, log_det},
        {"gradient in x against differences", "x_error", {r->x_error[0], r->x_error[1]}, gradient},
        {"gradient in the parameters", "theta_error", {r->theta_error[0], r->theta_error[1]}, gradient},
        {"gradient in the context", "ctx_error", {r->ctx_error[0], r->ctx_error[1]}, gradient},
        {"least log-det", "log_det_min", {r->log_det_min[0], r->log_det_min[1]}, 0},
        {"largest log-det", "log_det_max", {r->log_det_max[0], r->log_det_max[1]}, 0},
    };
    bool passed = true;
    printf("%-46s %12s %12s\n", "", "to the data", "to the base");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        passed = print_line(&lines[i], j) && passed;
    printf("%-46s %12zu\n", "features that no layer transforms", r->untouched);
    js_integer(j, "untouched", r->untouched);
    return passed && r->untouched == 0;
}

/* The least error at any of these steps of the differences: a large one meets the kinks of ReLU, a small one rounding.
   A wrong gradient is wrong at all of them. */
static void keep_least(double a[2], const double b[2])
{
    for (int k = 0; k < 2; k++)
        a[k] = b[k] < a[k] ? b[k] : a[k];
}

static nf_check_report check_model(const nf_model *m, double theta_scale)
{
    static const double radii[] = {1e-5, 1e-6, 1e-4, 1e-7};
    nf_check_report least = {0};
    for (size_t i = 0; i < sizeof radii / sizeof *radii; i++) {
        nf_check_report r;
        const nf_check_options o = {
            .n = points, .seed = seed, .scale = scale, .theta_scale = theta_scale, .radius = radii[i]};
        cli_ok(nf_check_flow(m, &o, &r));
        if (i == 0)
            least = r;
        keep_least(least.x_error, r.x_error);
        keep_least(least.theta_error, r.theta_error);
        keep_least(least.ctx_error, r.ctx_error);
    }
    return least;
}

static int check(size_t n_arguments, char **argument)
{
    if (n_arguments == 0 && family == FLOW_AUTO && !dim && !image_text)
        cli_fail(2, "give a MODEL, or --flow NAME with --dim D");
    if (n_arguments == 1 && (family != FLOW_AUTO || dim))
        cli_fail(2, "give either a MODEL or --flow, not both");
    density d = {0};
    bool own_it = true;
    if (n_arguments)
        density_load(&d, argument[0], 1);
    nf_model *m = n_arguments ? density_in_standard_units(&d, &own_it) : new_model();
    const nf_check_report r = check_model(m, n_arguments ? 0 : noise);
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    const bool passed = print_report(&r, nf_model_object(m), j);
    js_text(j, "verdict", passed ? "passed" : "failed");
    js_end(j);
    js_close(j);
    puts(passed ? "passed" : "FAILED");
    if (own_it)
        nf_model_free(m);
    if (n_arguments)
        density_free(&d);
    return passed ? 0 : 1;
}

const cli_command check_command = {
    .name = "check",
    .arguments = "[MODEL]",
    .most = 1,
    .about = "are a model's inverse, log-dets and gradients right?",
    .text = "A model, or a new flow, is checked at random points: that both directions are each other's inverse, the "
            "log-dets\n"
            "against determinants of dense Jacobians, gradients against differences; and whether there are features "
            "that no\n"
            "layer transforms. The exit status is 1 if anything is wrong.\n\n"
            "  nflow check model\n"
            "  nflow check --flow maf --dim 6",
    .options = options,
    .run = check,
};
