#include "families.h"
#include "cli.h"
#include <string.h>

char *family_word(nf_family family)
{
    const char *word = FAMILIES;
    for (int i = 0; i < (int)family; i++)
        word = strchr(word, '|') + 1;
    return cli_text("%.*s", (int)strcspn(word, "|"), word);
}
