// A logistic regression with a common scale of the coefficients. y has 0 and 1.
data {
  int<lower=0> N;
  int<lower=1> K;
  matrix[N, K] x;
  vector<lower=0, upper=1>[N] y;
}
parameters {
  real alpha;
  real<lower=0> scale;
  vector[K] beta;
}
model {
  vector[N] eta;
  eta = alpha + x * beta;
  alpha ~ normal(0, 2.5);
  scale ~ normal(0, 1);
  beta ~ normal(0, scale);
  target += dot_product(y, eta) - sum(log1p_exp(eta));
}
