"""The solvers: sgd and adam epoch by epoch, and lbfgs."""
