/*
 * Model files. A model file is one safetensors file. It holds the tensors of theta by their names, the state as
 * "state", and in the metadata
 *     format "nflow", format_version "1", library_version, architecture (the JSON text of description.h),
 *     and the model's notes, each under its key with NOTE in front, so that no key is one of the library's own.
 * docs/format.md has the whole format, for those who write readers.
 * Version 1 is settled: its files, such as those in tests/golden, load in every later version of the library.
 */
#include "model/model.h"
#include "base/memory.h"
#include "model/description.h"
#include "io/safetensors.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const nfi_format format = {.name = "nflow", .version = "1", .what = "model"};

static const char NOTE[] = "note.";
enum { NOTE_LENGTH = sizeof NOTE - 1, WHO_ROOM = 256 };

static nfi_slice state_slice(size_t n_state)
{
    return (nfi_slice){.name = "state", .count = n_state, .rank = 1, .extents = {n_state}};
}

/* ---- saving ---- */

static nf_status no_memory(void)
{
    return nf_error(NF_ENOMEM, "nf_save: no memory for the header");
}

static int add_notes(json_t *metadata, const nfi_notes *notes)
{
    int bad = 0;
    for (size_t i = 0; i < notes->n && !bad; i++) {
        char key[NOTE_LENGTH + NF_NOTE_KEY + 1];
        snprintf(key, sizeof key, "%s%s", NOTE, notes->list[i].key);
        bad = json_object_set_new(metadata, key, json_string(notes->list[i].text));
    }
    return bad;
}

static nf_status add_metadata(json_t *header, const nf_model *m)
{
    json_t *description = nfi_describe(m->o, "nf_save");
    if (!description)
        return nf_error_status();
    char *text;
    size_t length;
    nf_status status = nfi_json_text(description, JSON_COMPACT, 1, "nf_save", &text, &length);
    json_decref(description);
    if (status != NF_OK)
        return status;
    json_t *metadata = json_object();
    int bad = json_object_set_new(metadata, "format", json_string(format.name));
    bad |= json_object_set_new(metadata, "format_version", json_string(format.version));
    bad |= json_object_set_new(metadata, "library_version", json_string(nf_version()));
    bad |= json_object_set_new(metadata, "architecture", json_string(text));
    bad |= add_notes(metadata, &m->notes);
    bad |= json_object_set_new(header, NFI_METADATA_KEY, metadata);
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
    status = header ? add_metadata(header, m) : no_memory();
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

/* Gives the model the file's notes. Other metadata, which another program may have added, are not kept. */
static nf_status take_notes(const nfi_container *c, nf_model *m)
{
    json_t *metadata = json_object_get(c->header, NFI_METADATA_KEY), *value;
    nf_note *notes = nfi_calloc(json_object_size(metadata), sizeof *notes);
    if (!notes)
        return NF_ENOMEM;
    size_t n = 0;
    const char *key;
    json_object_foreach(metadata, key, value)
    {
        if (strncmp(key, NOTE, NOTE_LENGTH) == 0)
            notes[n++] = (nf_note){.key = key + NOTE_LENGTH, .text = json_string_value(value)};
    }
    char who[WHO_ROOM];
    snprintf(who, sizeof who, "nf_load: %s", c->path);
    nf_status status = n ? nfi_notes_set(&m->notes, n, notes, who, NF_EFORMAT) : NF_OK;
    nfi_free(notes);
    return status;
}

nf_model *nf_load(const char *path, const nf_types *types)
{
    if (!path) {
        nf_error(NF_EARG, "nf_load: `path` is NULL");
        return NULL;
    }
    nfi_container c;
    if (nfi_container_open(&c, "nf_load", path, &format) != NF_OK)
        return NULL;
    nf_object *o = load_structure(&c, types);
    if (o && nfi_container_read_data(&c, "nf_load") != NF_OK) {
        nf_object_free(o);
        o = NULL;
    }
    nf_model *m = o ? bind(&c, o) : NULL;
    if (m && take_notes(&c, m) != NF_OK) {
        nf_model_free(m);
        m = NULL;
    }
    nfi_container_free(&c);
    return m;
}
