#!/usr/bin/env python3
"""Writes Stan's answers about constraints, as JSON, in the form that tests/test_constraints.c includes.

usage: convert.py ANSWERS.json > vectors.h
The JSON is a list of {name, u, x_colmajor, logJ, parameters}: unconstrained numbers, constrained ones as Stan writes
them (matrices column by column), the log absolute Jacobian determinant, and bounds or offset and multiplier, if any.
"""
import json
import sys
import textwrap

PARAMETERS = ["lower", "offset", "upper", "multiplier"]  # the first two of which there are


def numbers(values):
    return "{" + ", ".join(repr(float(v)) for v in values) + "}"


def line(text):
    print("\n".join(textwrap.wrap(text, 118, initial_indent="     ", subsequent_indent="      ")))


if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
    sys.exit(__doc__.strip())
with open(sys.argv[1], encoding="utf-8") as f:
    answers = json.load(f)
print("/* Stan's answers about constraints; written by convert.py. */")
print("#ifndef CONSTRAINTS_VECTORS_H")
print("#define CONSTRAINTS_VECTORS_H")
print("#include <stddef.h>")
print()
print("enum { MOST_NUMBERS = %d };" % max(len(a["x_colmajor"]) for a in answers))
print("typedef struct vector {")
print("    const char *name;")
print("    size_t n_u, n_x;")
print("    double parameter[2], u[MOST_NUMBERS], x[MOST_NUMBERS], log_det;")
print("} vector;")
print()
print("/* clang-format off */")
print("static const vector vectors[] = {")
for a in answers:
    parameters = [a["parameters"][p] for p in PARAMETERS if p in a["parameters"]] + [0, 0]
    print('    {"%s", %d, %d, %s,' % (a["name"], len(a["u"]), len(a["x_colmajor"]), numbers(parameters[:2])))
    line("%s," % numbers(a["u"]))
    line("%s, %r}," % (numbers(a["x_colmajor"]), float(a["logJ"])))
print("};")
print("/* clang-format on */")
print("enum { N_VECTORS = sizeof vectors / sizeof *vectors };")
print()
print("#endif")
