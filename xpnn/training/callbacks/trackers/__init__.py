"""Callbacks that send what a training logs to another program: TensorBoard, MLflow, Weights & Biases.

Each needs the package of that program. If it fails (a full disk, a server that does not answer), it warns once, keeps
what it could not write, and tries again; the training goes on.
"""
