"""xpnn: one neural network, any array.

Names are resolved when they are first used (PEP 562), as `__init__.pyi` lists them: `import xpnn` loads nothing heavy,
not even NumPy, so that the command can still choose the BLAS kernels, and no array library is ever imported unasked.
"""

import lazy_loader as _lazy

from xpnn.version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
