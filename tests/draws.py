"""Reads the files that tests/draws_files.c has written by other programs than the library's: Python's csv and json, and, where
they are installed, those of the section "Reading the draws" of docs/posterior.md, whose code is run as it stands there.
Usage: draws.py <draws_files> <root of the sources>. NFLOW_PYTHON names a Python with numpy, arviz and cmdstanpy."""
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

program, root = sys.argv[1:]
N, NAMES = 1000, ["mu", *(f"theta.{i + 1}" for i in range(8)), *(f"Sigma.{i + 1}.{j + 1}" for j in range(3) for i in range(2))]
K_HAT_R = 'cat(loo::psis(table$lp__ - table$lp_approx__, r_eff = NA)$diagnostics$pareto_k - {k_hat}, "\\n")'


def value(i, k):
    return (i * 7919 + k * 104729) % 1000003 / 1000003 + k


def run(command, code, what):
    done = subprocess.run([*command, code], capture_output=True, text=True, cwd=folder)
    if done.returncode:
        sys.exit(f"{what}:\n{code}\n{done.stdout}{done.stderr}")
    return done.stdout


def has(command, code):
    return subprocess.run([*command, code], capture_output=True).returncode == 0


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([*os.environ.get("NFLOW_EMULATOR", "").split(), os.path.abspath(program), folder], check=True)

    with open(os.path.join(folder, "draws.csv"), encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")
    comments = dict(line[2:].split(" = ") for line in lines if line.startswith("#"))
    assert comments["method"] == "pathfinder" and comments["num_draws"] == str(N) and comments["model"] == "eight_schools"
    names, *rows = csv.reader(line for line in lines if line and not line.startswith("#"))
    assert names == ["lp_approx__", "lp__", *NAMES] and len(rows) == N
    state = 20261128
    for i, row in enumerate(rows):
        state = 16807 * state % 2147483647
        log_q = -(i % 17) / 3
        assert [float(x) for x in row] == [log_q, log_q - 1000 + state / 2147483647 * 3, *(value(i, k) for k in range(15))], i

    for c in range(4):
        with open(os.path.join(folder, f"inits_{c + 1}.json"), encoding="utf-8") as f:
            start = json.load(f)
        assert start == {"mu": value(c, 0), "theta": [value(c, k) for k in range(1, 9)],
                         "Sigma": [[value(c, 9 + i + 2 * j) for j in range(3)] for i in range(2)]}, start
    ran = ["csv", "json"]

    with open(os.path.join(root, "docs/posterior.md"), encoding="utf-8") as f:
        section = re.split(r"^## ", f.read(), flags=re.M)
    section = next(s for s in section if s.startswith("Reading the draws"))
    blocks = re.findall(r"^```(r|python)\n(.*?)^```", section, re.M | re.S)
    assert [language for language, _ in blocks] == ["r", "python", "python", "python"]
    r, table, arviz, cmdstanpy = (code for _, code in blocks)
    rscript, python = ["Rscript", "-e"], [os.environ.get("NFLOW_PYTHON", sys.executable), "-c"]
    if shutil.which("Rscript") and has(rscript, "library(posterior); library(loo)"):
        difference = run(rscript, r + K_HAT_R.format(**comments), "R").split()[-1]
        assert abs(float(difference)) < 1e-9, difference
        ran.append("R")
    if has(python, "import numpy"):
        run(python, table, "numpy")
        ran.append("numpy")
    if has(python, "import arviz"):
        check = "print(*data.posterior['Sigma'].shape, *data.posterior['Sigma'].values[0, 3, 1])\n"
        *_, k_hat, shape = run(python, table + arviz + check, "arviz").splitlines()
        shape = shape.split()
        assert abs(float(k_hat) - float(comments["k_hat"])) < 1e-9, k_hat
        assert shape[:4] == ["1", str(N), "2", "3"] and [float(x) for x in shape[4:]] == [value(3, 10 + 2 * j) for j in range(3)]
        ran.append("arviz")
    if has(python, "import cmdstanpy"):
        check = "print(*fit.stan_variable('Sigma')[3, 1], *fit.method_variables()['lp__'][:1])\n"
        numbers = run(python, cmdstanpy + check, "cmdstanpy").split("\n")[-2].split()
        assert [float(x) for x in numbers[:3]] == [value(3, 10 + 2 * j) for j in range(3)]
        ran.append("cmdstanpy")
print("read by", ", ".join(ran))
