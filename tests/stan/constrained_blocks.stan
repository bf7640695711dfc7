// One parameter of each kind of constraint that has an order of its own.
data {
  int<lower=2> K;
  vector<lower=0>[K] alpha;
}
parameters {
  real<lower=-1, upper=2.5> rho;
  simplex[K] pi;
  ordered[K] cut;
  cov_matrix[K] Sigma;
  cholesky_factor_corr[K] L;
  corr_matrix[K] R;
}
model {
  rho ~ normal(0, 1);
  pi ~ dirichlet(alpha);
  cut ~ normal(0, 2);
  Sigma ~ wishart(K + 2, diag_matrix(rep_vector(0.5, K)));
  L ~ lkj_corr_cholesky(2);
  R ~ lkj_corr(1.5);
}
