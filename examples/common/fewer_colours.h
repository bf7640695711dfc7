/* Makes PNG files of pictures with flat areas small. */
#ifndef EXAMPLES_FEWER_COLOURS_H
#define EXAMPLES_FEWER_COLOURS_H

/* Writes a PNG file anew with a palette: its 64 most frequent colours, of which each pixel takes the nearest. Built
   without libpng it does nothing. Exits 1 with one line on failure. */
void fewer_colours(const char *path);

#endif
