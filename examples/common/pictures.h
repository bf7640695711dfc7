/* PNG files by libpng, whose pixels are exact: pictures to learn from, and tables of pictures to look at. */
#ifndef EXAMPLES_PICTURES_H
#define EXAMPLES_PICTURES_H
#include <nflow/image.h>

/* Reads a picture of 8 bits or less a channel, *size: its sizes; 1 to 4 channels are grey, grey and alpha, RGB, RGBA.
   Returns [channels][height][width], to be released by free(). Exits 1 with one line if the file is damaged, or has 16
   bits or a palette. */
unsigned char *picture_read(const char *path, nf_image *size);
/* Reads all PNG files of a folder, those whose names end in .png or .PNG, in alphabetical order: *n pictures of the
   sizes *size. Returns [n][channels][height][width], to be released by free(); NULL if there are none. Exits 1 as
   picture_read() does, and if the sizes are not equal. */
unsigned char *pictures_read(const char *folder, nf_image *size, size_t *n);
/* [n] images [height][width][channels] become [channels][height][width] in place. */
void picture_planes(nf_image size, size_t n, unsigned char *x);

/* How many pixels a side picture_write_table() makes of each, so that small images can be seen. */
size_t picture_zoom(nf_image size);
enum { PICTURE_GAP = 2 }; /* pixels between pictures */
/* Writes a table of pictures of 1 to 4 channels as a PNG file: picture i is x[i] [channels][height][width], row by row.
   What is between the pictures is white. */
void picture_write_table(const char *path, size_t rows, size_t columns, nf_image size, const unsigned char *x);

#endif
