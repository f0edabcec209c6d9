"""Files that hold a model or a training run."""
