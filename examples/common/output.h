/*
 * What the example programs write: JSON and gnuplot's pictures.
 *
 *     json *j = json_open("out/x.json");          // NULL: nothing is written
 *     json_begin(j, NULL, '{');
 *     json_begin(j, "results", '[');
 *     json_begin(j, NULL, '{'); json_text(j, "energy", "U1"); json_number(j, "kl", 0.012); json_end(j);
 *     json_end(j);
 *     json_end(j);
 *     json_close(j);
 */
#ifndef EXAMPLES_OUTPUT_H
#define EXAMPLES_OUTPUT_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json json;

/* A file to write. path NULL: returns NULL, and the other functions do nothing. Exits 1 if it cannot be opened. */
json *json_open(const char *path);
/* An object '{' or an array '['. name is NULL at the top and in arrays, here and below. */
void json_begin(json *j, const char *name, char kind);
void json_end(json *j);
void json_number(json *j, const char *name, double value); /* null if it is not finite */
void json_integer(json *j, const char *name, uint64_t value);
void json_text(json *j, const char *name, const char *value);
/* Exits 1 if anything could not be written. */
void json_close(json *j);

/* A gnuplot that draws to a PNG file of so many pixels: write its script to the stream. Exits 1 if there is none. */
FILE *plot_open(const char *png, int width, int height);
/* Waits for gnuplot; exits 1 if it failed. */
void plot_close(FILE *plot);

#endif
