/* nflow: densities of tables of numbers from the shell. */
#include "commands.h"

int main(int argc, char **argv)
{
    static const cli_command *const commands[] = {&fit_command,    &score_command, &sample_command,
                                                  &info_command,   &check_command, &plot_command,
                                                  &import_command, &vi_command,    NULL};
    return cli_run(
        argc, argv, "Fits normalizing flows to tables of numbers and to posteriors, scores and samples them.",
        "Options may stand before or after arguments. Data are files of csv, tsv, npy or IDX, plain or gzip; \"-\"\n"
        "is stdin or stdout. The exit status is 0, or 1 if data or files are wrong, or 2 if the command line is.\n\n"
        "  nflow fit data.csv -o model\n"
        "  nflow score model new.csv -o scores.csv\n"
        "  nflow sample model -n 1000 -o samples.csv\n"
        "  nflow vi model.so data.json -o draws.csv\n",
        commands);
}
