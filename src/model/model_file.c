/*
 * Model files. A model file is one safetensors file. It holds the tensors of theta by their names, the state as
 * "state", and in the metadata
 *     format "nflow", format_version "1", library_version, architecture (the JSON text of description.h).
 * Version 1 is settled: its files, such as those in tests/golden, load in every later version of the library.
 */
#include "model/model.h"
#include "base/memory.h"
#include "model/description.h"
#include "io/safetensors.h"
#include <jansson.h>
#include <string.h>

static const char format[] = "nflow", format_version[] = "1";

static nfi_slice state_slice(size_t n_state)
{
    return (nfi_slice){.name = "state", .count = n_state, .rank = 1, .extents = {n_state}};
}

/* ---- saving ---- */

static nf_status no_memory(void)
{
    return nf_error(NF_ENOMEM, "nf_save: no memory for the header");
}

static nf_status add_metadata(json_t *header, const nf_object *o)
{
    json_t *description = nfi_describe(o, "nf_save");
    if (!description)
        return nf_error_status();
    char *text;
    size_t length;
    nf_status status = nfi_json_text(description, JSON_COMPACT, 1, "nf_save", &text, &length);
    json_decref(description);
    if (status != NF_OK)
        return status;
    json_t *metadata = json_object();
    int bad = json_object_set_new(metadata, "format", json_string(format));
    bad |= json_object_set_new(metadata, "format_version", json_string(format_version));
    bad |= json_object_set_new(metadata, "library_version", json_string(nf_version()));
    bad |= json_object_set_new(metadata, "architecture", json_string(text));
    bad |= json_object_set_new(header, "__metadata__", metadata);
    nfi_free(text);
    return bad ? no_memory() : NF_OK;
}

/* Composes the header: a new reference. */
static nf_status compose_header(const nf_model *m, json_t **composed)
{
    nfi_slices slices;
    nf_status status = nfi_slices_of(m->o, "nf_save", &slices);
    if (status != NF_OK)
        return status;
    json_t *header = *composed = json_object();
    size_t n_data = 0, n_state = m->o->total.n_state;
    status = header ? add_metadata(header, m->o) : no_memory();
    for (size_t i = 0; i < slices.n && status == NF_OK; i++)
        status = nfi_header_add(header, "nf_save", &slices.slice[i], &n_data);
    nfi_slice state = state_slice(n_state);
    if (status == NF_OK && n_state)
        status = nfi_header_add(header, "nf_save", &state, &n_data);
    nfi_slices_free(&slices);
    return status;
}

nf_status nf_save(const nf_model *m, const char *path)
{
    if (!m || !path)
        return nf_error(NF_EARG, "nf_save: `%s` is NULL", m ? "path" : "m");
    json_t *header = NULL;
    nf_status status = compose_header(m, &header);
    nfi_container_writer file;
    if (status == NF_OK)
        status = nfi_container_begin(&file, "nf_save", path, header);
    if (status == NF_OK) {
        status = nfi_container_put(&file, m->o->total.n_params, m->theta);
        if (status == NF_OK)
            status = nfi_container_put(&file, m->o->total.n_state, m->state);
        status = nfi_container_finish(&file, status);
    }
    json_decref(header);
    return status;
}

/* ---- loading ---- */

static nf_status check_format(const nfi_container *c)
{
    const char *is = nfi_container_metadata(c, "format"), *version = nfi_container_metadata(c, "format_version");
    if (!is || strcmp(is, format) != 0)
        return nf_error(NF_EFORMAT, "nf_load: %s: not a model of this library (its format is '%s')", c->path,
                        is ? is : "");
    if (!version || strcmp(version, format_version) != 0)
        return nf_error(NF_EFORMAT, "nf_load: %s: format version '%s', this library reads '%s'", c->path,
                        version ? version : "", format_version);
    return NF_OK;
}

/* Rebuilds the object, and checks that it has as many numbers as the file. */
static nf_object *load_structure(const nfi_container *c, const nf_types *types)
{
    const char *text = nfi_container_metadata(c, "architecture");
    json_error_t error = {.text = "it is missing"};
    json_t *description = text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (!description) {
        nf_error(text && json_error_code(&error) == json_error_out_of_memory ? NF_ENOMEM : NF_EFORMAT,
                 "nf_load: %s: damaged architecture: %s", c->path, error.text);
        return NULL;
    }
    const nfi_origin from = {
        .who = "nf_load", .path = c->path, .types = types, .n_numbers = c->n_numbers, .most_numbers = c->n_numbers};
    nf_object *o = nfi_rebuild(description, &from);
    json_decref(description);
    size_t n_numbers;
    if (o && (!nfi_add(o->total.n_params, o->total.n_state, &n_numbers) || n_numbers != c->n_numbers)) {
        nf_error(NF_EFORMAT, "nf_load: %s: the %s has %zu parameters and %zu of state, the file %zu numbers", c->path,
                 o->part->name, o->total.n_params, o->total.n_state, c->n_numbers);
        nf_object_free(o);
        return NULL;
    }
    return o;
}

/* Copies every tensor. Since the object and the file have equally many numbers, every tensor that is not empty has then
   been taken once. */
static nf_status take_numbers(nfi_container *c, const nf_object *o, nf_real *theta, nf_real *state)
{
    nfi_slices slices;
    nf_status status = nfi_slices_of(o, "nf_load", &slices);
    if (status != NF_OK)
        return status;
    size_t n_state = o->total.n_state, n_taken = slices.n + (n_state != 0);
    for (size_t i = 0; i < slices.n && status == NF_OK; i++)
        status = nfi_container_take(c, "nf_load", &slices.slice[i], theta + slices.slice[i].offset);
    nfi_slice s = state_slice(n_state);
    if (status == NF_OK && n_state)
        status = nfi_container_take(c, "nf_load", &s, state);
    for (size_t i = 0; i < c->n_tensors && status == NF_OK && n_taken != c->n_tensors; i++)
        if (!c->tensor[i].taken)
            status = nf_error(NF_EFORMAT, "nf_load: %s: the tensor '%s' is none of the %s's", c->path,
                              c->tensor[i].name, o->part->name);
    nfi_slices_free(&slices);
    return status;
}

/* Binds the object to a new model. Consumes the object. */
static nf_model *bind(nfi_container *c, nf_object *o)
{
    nf_real *theta = nfi_calloc(o->total.n_params, sizeof(nf_real));
    nf_real *state = nfi_calloc(o->total.n_state, sizeof(nf_real));
    nf_model *m = NULL;
    if (theta && state && take_numbers(c, o, theta, state) == NF_OK)
        m = nfi_model_bind(nf_object_ref(o), &(nf_model_options){.theta = theta, .state = state}, "nf_load", "o");
    nf_object_free(o);
    if (!m) {
        nfi_free(theta);
        nfi_free(state);
        return NULL;
    }
    m->own_theta = m->own_state = true;
    return m;
}

nf_model *nf_load(const char *path, const nf_types *types)
{
    if (!path) {
        nf_error(NF_EARG, "nf_load: `path` is NULL");
        return NULL;
    }
    nfi_container c;
    if (nfi_container_open(&c, "nf_load", path) != NF_OK)
        return NULL;
    nf_object *o = check_format(&c) == NF_OK ? load_structure(&c, types) : NULL;
    if (o && nfi_container_read_data(&c, "nf_load") != NF_OK) {
        nf_object_free(o);
        o = NULL;
    }
    nf_model *m = o ? bind(&c, o) : NULL;
    nfi_container_free(&c);
    return m;
}
