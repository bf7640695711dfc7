/*
 * Notes: texts by keys that a model carries, and that its file keeps (model_file.c).
 *
 * A change makes a new block from the old notes and the new ones, merged by key, so that either all of a call's changes
 * are made or none. Notes are few and small, and what they may have is bounded, so that a file's header stays small.
 */
#include "model/notes.h"
#include "base/memory.h"
#include "model/model.h"
#include <stdlib.h>
#include <string.h>

/* The length of the UTF-8 sequence at `at`, 0 if it is none (RFC 3629: no overlong forms, no surrogates). A sequence
   that is cut off ends in the terminating 0, which is no byte of continuation. */
static size_t sequence(const unsigned char *at)
{
    const unsigned char first = at[0];
    if (first < 0x80)
        return 1;
    const size_t n = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 ? 4 : 0;
    if (n == 0 || first > 0xf4)
        return 0;
    const unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return n;
}

static bool is_utf8(const char *text)
{
    for (size_t n; *text; text += n)
        if ((n = sequence((const unsigned char *)text)) == 0)
            return false;
    return true;
}

/* Checks note number i of a caller's. */
static nf_status check_note(size_t i, const nf_note *note, const char *who, nf_status kind)
{
    if (!note->key || !*note->key)
        return nf_error(kind, "%s: note %zu has no key", who, i);
    if (strnlen(note->key, NF_NOTE_KEY + 1) > NF_NOTE_KEY)
        return nf_error(kind, "%s: the key of note %zu has more than %d bytes", who, i, NF_NOTE_KEY);
    if (!is_utf8(note->key) || (note->text && !is_utf8(note->text)))
        return nf_error(kind, "%s: note %zu is not UTF-8", who, i);
    if (note->text && strnlen(note->text, NF_NOTE_TEXT + 1) > NF_NOTE_TEXT)
        return nf_error(kind, "%s: the text of note '%s' has more than %d bytes", who, note->key, NF_NOTE_TEXT);
    return NF_OK;
}

/* A note on its way to the new block. */
typedef struct candidate {
    nf_note note;
    size_t order; /* among notes of the same key, the last one counts */
} candidate;

static int by_key(const void *a, const void *b)
{
    const candidate *s = a, *t = b;
    const int key = strcmp(s->note.key, t->note.key);
    return key ? key : (s->order > t->order) - (s->order < t->order);
}

/* Sorts candidates [n] and leaves of each key the last one, if it has a text. Returns how many stay. */
static size_t settle(size_t n, candidate *list)
{
    size_t kept = 0;
    qsort(list, n, sizeof *list, by_key);
    for (size_t i = 0; i < n; i++)
        if (list[i].note.text && (i + 1 == n || strcmp(list[i].note.key, list[i + 1].note.key) != 0))
            list[kept++] = list[i];
    return kept;
}

static char *append(char *at, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    memcpy(at, text, bytes);
    return at + bytes;
}

/* Copies the candidates to one new block. */
static nf_status copy_notes(size_t n, const candidate *from, const char *who, nf_status kind, nf_note **list)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(from[i].note.key) + strlen(from[i].note.text) + 2;
    if (n > NF_NOTES || bytes > NF_NOTES_BYTES)
        return nf_error(kind, "%s: %zu notes with %zu bytes, but at most %d with %d are kept", who, n, bytes, NF_NOTES,
                        NF_NOTES_BYTES);
    *list = nfi_calloc(1, n * sizeof **list + bytes);
    if (!*list)
        return NF_ENOMEM;
    char *at = (char *)(*list + n);
    for (size_t i = 0; i < n; i++) {
        (*list)[i] = (nf_note){.key = at, .text = at + strlen(from[i].note.key) + 1};
        at = append(append(at, from[i].note.key), from[i].note.text);
    }
    return NF_OK;
}

nf_status nfi_notes_set(nfi_notes *notes, size_t n, const nf_note *more, const char *who, nf_status kind)
{
    if (n > NF_NOTES)
        return nf_error(kind, "%s: %zu notes, but at most %d are kept", who, n, NF_NOTES);
    for (size_t i = 0; i < n; i++) {
        nf_status status = check_note(i, &more[i], who, kind);
        if (status != NF_OK)
            return status;
    }
    candidate *all = nfi_calloc(notes->n + n, sizeof *all);
    if (!all)
        return NF_ENOMEM;
    for (size_t i = 0; i < notes->n + n; i++)
        all[i] = (candidate){.note = i < notes->n ? notes->list[i] : more[i - notes->n], .order = i};
    const size_t kept = settle(notes->n + n, all);
    nf_note *list = NULL;
    nf_status status = copy_notes(kept, all, who, kind, &list);
    nfi_free(all);
    if (status != NF_OK)
        return status;
    nfi_free(notes->list);
    *notes = (nfi_notes){.n = kept, .list = list};
    return NF_OK;
}

void nfi_notes_free(nfi_notes *notes)
{
    nfi_free(notes->list);
    *notes = (nfi_notes){0};
}

nf_status nf_model_set_notes(nf_model *m, size_t n, const nf_note *notes)
{
    if (!m || (n && !notes))
        return nf_error(NF_EARG, "nf_model_set_notes: `%s` is NULL", m ? "notes" : "m");
    return nfi_notes_set(&m->notes, n, notes, "nf_model_set_notes", NF_EARG);
}

const nf_note *nf_model_notes(const nf_model *m, size_t *n)
{
    if (n)
        *n = m ? m->notes.n : 0;
    return m ? m->notes.list : NULL;
}

static int key_of_note(const void *key, const void *note)
{
    return strcmp(key, ((const nf_note *)note)->key);
}

const char *nf_model_note(const nf_model *m, const char *key)
{
    if (!m || !key || !m->notes.n)
        return NULL;
    const nf_note *note = bsearch(key, m->notes.list, m->notes.n, sizeof *note, key_of_note);
    return note ? note->text : NULL;
}
