// Rubin's eight schools, non-centred: the effects are mu + tau eta.
data {
  int<lower=1> J;
  vector[J] y;
  vector<lower=0>[J] sigma;
}
transformed data {
  print("eight schools: J is ", J);
}
parameters {
  real mu;
  real<lower=0> tau;
  vector[J] eta;
}
transformed parameters {
  vector[J] theta;
  theta = mu + tau * eta;
}
model {
  mu ~ normal(0, 5);
  tau ~ cauchy(0, 5);
  eta ~ normal(0, 1);
  y ~ normal(theta, sigma);
}
generated quantities {
  vector[J] y_rep;
  for (j in 1:J)
    y_rep[j] = normal_rng(theta[j], sigma[j]);
}
