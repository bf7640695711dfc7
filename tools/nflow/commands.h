/* The commands of the tool. Each is the table of one file. */
#ifndef NFLOW_TOOL_COMMANDS_H
#define NFLOW_TOOL_COMMANDS_H
#include "cli.h"

extern const cli_command fit_command, score_command, sample_command, info_command, check_command, plot_command,
    import_command, vi_command;

#endif
