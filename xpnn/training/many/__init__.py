"""Many trainers at once."""

from xpnn.training.many.fit_many import fit_many

__all__ = ["fit_many"]
