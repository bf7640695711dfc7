/*
 * What the example programs write: JSON and gnuplot's pictures.
 * The prefix is js, for Jansson has the names with json.
 *
 *     js_file *j = js_open("out/x.json");          // NULL: nothing is written
 *     js_begin(j, NULL, '{');
 *     js_begin(j, "results", '[');
 *     js_begin(j, NULL, '{'); js_text(j, "energy", "U1"); js_number(j, "kl", 0.012); js_end(j);
 *     js_end(j);
 *     js_end(j);
 *     js_close(j);
 */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct js_file js_file;

/* A file to write. path NULL: returns NULL, and the other functions do nothing. Exits 1 if it cannot be opened. */
js_file *js_open(const char *path);
/* An object '{' or an array '['. name is NULL at the top and in arrays, here and below. */
void js_begin(js_file *j, const char *name, char kind);
void js_end(js_file *j);
void js_number(js_file *j, const char *name, double value); /* null if it is not finite */
void js_integer(js_file *j, const char *name, uint64_t value);
void js_text(js_file *j, const char *name, const char *value);
void js_truth(js_file *j, const char *name, bool value); /* true or false */
/* Exits 1 if anything could not be written. */
void js_close(js_file *j);

/* A gnuplot that draws to a PNG file of so many pixels, or to an SVG file if its name ends so: write its script to the
   stream. Exits 1 if there is none. */
FILE *plot_open(const char *picture, int width, int height);
/* Waits for gnuplot; exits 1 if it failed. */
void plot_close(FILE *plot);

#endif
