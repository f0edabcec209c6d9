"""A library that xpnn has no class for: whatever array-api-compat knows, or follows the standard by itself."""

from __future__ import annotations

from typing import Any, final

from xpnn.arrays.namespace import Namespace, namespace
from xpnn.devices.libraries.base import Library


@final
class OtherLibrary(Library):
    """A library by the name of its package, with the defaults of `Library`.

    Parameters
    ----------
    module : str
        The package.
    functions : Namespace, optional
        Its functions, if an array of the library has been seen.
    """

    def __init__(self, module: str, functions: Namespace | None = None) -> None:
        self.name = self.title = self.module = self.package = module
        self._functions = functions

    def namespace(self) -> Namespace:
        if self._functions is None:
            self._functions = namespace(self.module)
        return self._functions

    def device(self, kind: str, index: int) -> Any:
        """Return the default device: nothing more is known of its devices."""
        info = getattr(self.namespace(), "__array_namespace_info__", None)
        return "cpu" if info is None else info().default_device()
