/* What nflow vi says of a posterior: as text for people, and in JSON for programs. */
#ifndef NFLOW_TOOL_VI_REPORT_H
#define NFLOW_TOOL_VI_REPORT_H
#include "output.h"
#include <nflow/nflow.h>

/* Prints what was tried, the outputs in numbers, and the verdict. */
void vi_print(const nf_target *t, const nf_vi_result *r);
/* The members of the report, but for what only the command line knows. */
void vi_json(js_file *j, const nf_target *t, const nf_vi_result *r);

#endif
