/* Pages that are made of the tables of commands: manual pages, and the completion of bash. All print to stdout and
   return the exit status. */
#ifndef TOOLS_CLI_PAGES_H
#define TOOLS_CLI_PAGES_H
#include "cli.h"
#include <stdio.h>

/* The manual page of one command, for nroff -man. */
int cli_print_manual(const char *program, const cli_command *c);
/* That of the program, which lists the commands. */
int cli_print_program_manual(const char *program, const char *about, const char *text,
                             const cli_command *const *commands);
/* A script that bash reads from bash-completion's folder. */
int cli_print_completion(const char *program, const cli_command *const *commands);
/* The option's default in brackets, with a space before; nothing if there is none. */
void cli_show_default(const cli_option *o, FILE *file);

#endif
