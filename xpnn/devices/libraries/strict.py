"""array-api-strict: NumPy without whatever the standard does not promise, with devices that exist only in name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np

from xpnn.devices.libraries.base import Library


@final
class Strict(Library):
    """array-api-strict; what differs from the defaults of `Library`."""

    name = "strict"
    title = "strict"
    module = "array_api_strict"
    package = "array-api-strict"

    def device(self, kind: str, index: int) -> Any:
        return self._devices()[index]

    def kind_and_index(self, device: Any) -> tuple[str, int]:
        return "cpu", self._devices().index(device)

    def cpu_devices(self) -> list[str]:
        return [str(device).split("'")[1] for device in self._devices()]

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x.to_device(self.device("cpu", 0)))

    def compute_scope(self) -> AbstractContextManager[Any]:
        """Return a context without NumPy's warnings of overflow."""
        return np.errstate(all="ignore")

    def _devices(self) -> list[Any]:
        return list(self.namespace().__array_namespace_info__().devices())
