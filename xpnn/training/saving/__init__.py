"""Files for models."""
