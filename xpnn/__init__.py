"""xpnn: one neural network, any array.

Public names are imported when they are first used (PEP 562); `__init__.pyi` lists them. `import xpnn` loads nothing
heavy, not even NumPy, so that the command can choose the BLAS kernels first. No array library is imported unless it is
used.
"""

import lazy_loader as _lazy

from xpnn import deprecated as _deprecated
from xpnn.version import __version__ as __version__

_deprecated.install()

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
