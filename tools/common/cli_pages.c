#include "cli_pages.h"
#include <stdlib.h>
#include <string.h>

/* ---- manual pages ---- */

/* Text in which nroff finds no requests: '-' and '\' are escaped, and no line begins with '.' or a quote. */
static void roff(const char *text)
{
    bool begins = true;
    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
        begins = *text == '\n';
    }
}

/* Paragraphs, which blank lines separate. Lines that begin with spaces, such as commands, stay as they are. */
static void paragraphs(const char *text)
{
    bool as_is = false;
    while (*text) {
        const size_t length = strcspn(text, "\n");
        const bool indented = text[0] == ' ';
        if (indented != as_is)
            puts(indented ? ".nf" : ".fi");
        as_is = indented;
        if (length == 0)
            puts(".PP");
        char *line = cli_text("%.*s", (int)length, text);
        if (length > 0) {
            roff(line);
            putchar('\n');
        }
        free(line);
        text += length + (text[length] == '\n');
    }
    if (as_is)
        puts(".fi");
}

static void heading(const char *title, const char *program, const char *about)
{
    printf(".TH \"%s\" 1 \"\" \"%s %s\" \"%s\"\n.SH NAME\n", title, program, nf_version(), program);
    roff(title);
    fputs(" \\- ", stdout);
    roff(about);
    puts("\n.SH SYNOPSIS");
}

int cli_print_manual(const char *program, const cli_command *c)
{
    char *title = cli_text("%s-%s", program, c->name);
    heading(title, program, c->about);
    free(title);
    printf(".B %s %s\n[options] %s\n", program, c->name, c->arguments ? c->arguments : "");
    if (c->text) {
        puts(".SH DESCRIPTION");
        paragraphs(c->text);
    }
    puts(".SH OPTIONS");
    for (const cli_option *o = c->options; o->name; o++) {
        printf(".TP\n.B ");
        if (o->letter)
            printf("\\-%c, ", o->letter);
        fputs("\\-\\-", stdout);
        roff(o->name);
        putchar(' ');
        roff(o->values ? o->values : "");
        putchar('\n');
        roff(o->help);
        cli_show_default(o, stdout);
        putchar('\n');
    }
    return 0;
}

int cli_print_program_manual(const char *program, const char *about, const char *text,
                             const cli_command *const *commands)
{
    heading(program, program, about);
    printf(".B %s\nCOMMAND [options] [arguments]\n.SH COMMANDS\n", program);
    for (; *commands; commands++) {
        printf(".TP\n.B %s\n", (*commands)->name);
        roff((*commands)->about);
        printf("\nSee %s\\-%s(1).\n", program, (*commands)->name);
    }
    puts(".SH DESCRIPTION");
    paragraphs(text);
    return 0;
}

/* ---- bash ---- */

static void completion_of_command(const cli_command *c)
{
    printf("    %s)\n        options='--help", c->name);
    for (const cli_option *o = c->options; o->name; o++)
        printf(" --%s", o->name);
    puts("'\n        case $previous in");
    for (const cli_option *o = c->options; o->name; o++)
        if (o->choice) {
            printf("        --%s) words='", o->name);
            for (const char *v = o->values; *v; v++)
                putchar(*v == '|' ? ' ' : *v);
            puts("' ;;");
        }
    puts("        esac\n        ;;");
}

int cli_print_completion(const char *program, const cli_command *const *commands)
{
    printf("# What bash completes the command line of %s with; made by \"%s help --bash\".\n", program, program);
    printf(
        "_%s() {\n    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} options='' "
        "words=''\n"
        "    COMPREPLY=()\n    if ((COMP_CWORD == 1)); then\n        mapfile -t COMPREPLY < <(compgen -W 'help --help "
        "--version",
        program);
    for (size_t i = 0; commands[i]; i++)
        printf(" %s", commands[i]->name);
    puts("' -- \"$current\")\n        return\n    fi\n    case ${COMP_WORDS[1]} in");
    for (size_t i = 0; commands[i]; i++)
        completion_of_command(commands[i]);
    printf("    esac\n    if [[ -n $words ]]; then\n        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- "
           "\"$current\")\n"
           "    elif [[ $current == -* ]]; then\n        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- "
           "\"$current\")\n"
           "    else\n        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n    fi\n}\n"
           "complete -o filenames -F _%s %s\n",
           program, program);
    return 0;
}
