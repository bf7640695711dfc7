#!/usr/bin/env Rscript
# What R's package loo says of the ratios of tests/test_psis.c, one line a case: name, Pareto k, effective sample size,
# log of the mean weight, and the sum of cos(i) times the smoothed log weight of draw i, less the largest
# ratio. "Rscript tests/psis_loo.R >tests/psis_loo.txt" writes the table anew; "Rscript tests/psis_loo.R TABLE" compares it
# with what the installed loo says. Without loo it says so and exits with 77, which Meson shows as skipped.
if (!requireNamespace("loo", quietly = TRUE)) {
  cat("R's package loo is not installed\n")
  quit(status = 77)
}

# Lehmer's generator: its numbers are exact in double, so that C has the same.
state <- 1
uniform <- function() {
  state <<- (16807 * state) %% 2147483647
  state / 2147483647
}
normal <- function() {
  u <- uniform()
  sqrt(-2 * log(u)) * cos(2 * pi * uniform())
}

cases <- list(
  pareto_0.3 = list(1000, function() -0.3 * log(uniform())),
  pareto_0.7 = list(4000, function() -0.7 * log(uniform())),
  pareto_1.2 = list(1000, function() -1.2 * log(uniform())),
  normal_1 = list(2500, function() normal()),
  normal_5 = list(1000, function() 5 * normal()),
  normal_40 = list(1000, function() 40 * normal()),
  bounded = list(1000, function() log(uniform())),
  shifted = list(500, function() -51234.5 + 0.8 * normal()),
  cauchy = list(5000, function() { x <- normal(); x * x / 2 - log(1 + x * x) }),
  nearly_equal = list(1000, function() 1e-5 * normal()),
  smallest = list(21, function() normal()),
  too_few = list(20, function() normal()),
  rounded = list(1000, function() floor(8 * normal()) / 8),
  rejected = list(1000, function() { x <- normal(); if (x < -0.4) -Inf else x }),
  wide = list(1000, function() 1e4 * normal())
)

line <- function(name) {
  state <<- 20261128 + which(names(cases) == name)
  n <- cases[[name]][[1]]
  ratio <- vapply(seq_len(n), function(i) cases[[name]][[2]](), 0)
  draw <- which(is.finite(ratio)) # loo takes no others
  p <- suppressWarnings(loo::psis(ratio[draw], r_eff = NA))
  w <- as.vector(weights(p, log = TRUE, normalize = FALSE)) - max(ratio)
  c(p$diagnostics$pareto_k, p$diagnostics$n_eff, log(sum(exp(w)) / n) + max(ratio), sum(cos(draw) * w))
}

table <- t(vapply(names(cases), line, numeric(4)))
path <- commandArgs(trailingOnly = TRUE)
if (length(path) == 0) {
  for (name in names(cases)) cat(name, sprintf("%.15g", table[name, ]), "\n")
} else {
  old <- as.matrix(read.table(path, row.names = 1))
  stopifnot(identical(rownames(old), names(cases)))
  same <- old == table | abs(old - table) <= 1e-9 * (1 + abs(table))
  if (!all(same)) stop("loo says something else of ", paste(names(cases)[rowSums(!same) > 0], collapse = ", "))
}
