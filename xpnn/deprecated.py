"""Old names of modules, functions and classes: they work for one more release, with a DeprecationWarning.

To rename something public, add a row to one of the tables below. A module that has moved is found by an import hook,
which `xpnn/__init__.py` installs. A name that has moved out of a module that still exists is found by that module's
``__getattr__``, which the module installs with ``deprecated.attach(__name__)``.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False  # as in `typing`, whose import would take longer than that of the whole package
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, ModuleType
    from typing import Any

#: Modules that no longer exist under their old name.
MODULES = {
    "xpnn.arrays.accelerate": "xpnn.arrays.dispatch",
    "xpnn.arrays.blas": "xpnn.devices.cpu_blas",
    "xpnn.arrays.device": "xpnn.devices.place",
    "xpnn.arrays.products": "xpnn.arrays.matmul",
    **{f"xpnn.arrays.{name}": f"xpnn.devices.{name}" for name in ("buffers", "driver", "memory", "probe", "staging")},
    "xpnn.arrays.gpu_checks": "xpnn.devices.libraries.checks",
    "xpnn.cli.building": "xpnn.experiments.factory",
    "xpnn.cli.experiment": "xpnn.experiments.experiment",
    "xpnn.cli.run_folder": "xpnn.experiments.run_folder",
    "xpnn.cli.saved": "xpnn.experiments.saved_run",
    "xpnn.cli.settings": "xpnn.experiments.settings",
    "xpnn.cli.threads": "xpnn.devices.threads",
    **{
        f"xpnn.cli.{name}": f"xpnn.cli.terminal.{name}"
        for name in ("console", "downloads", "options", "progress", "stopping")
    },
    **{
        f"xpnn.nn.{name}": f"xpnn.nn.layers.{name}"
        for name in ("activations", "augmentation", "containers", "dropout", "embedding", "linear", "softmax")
    },
    "xpnn.nn.normalization": "xpnn.nn.layers.normalization",
    "xpnn.nn.preprocessing": "xpnn.nn.layers.preprocessing",
    "xpnn.nn.cross_entropy": "xpnn.nn.losses.cross_entropy",
    "xpnn.nn.dense": "xpnn.nn.fused",
    "xpnn.nn.reduction": "xpnn.nn.losses.reduction",
    "xpnn.nn.special": "xpnn.arrays.special",
    "xpnn.recipes": "xpnn.experiments.recipes",
    "xpnn.report.samples": "xpnn.report.predictions",
    "xpnn.testing.numbers": "xpnn.testing.deviation_measures",
    "xpnn.testing.samples": "xpnn.testing.cases",
    "xpnn.training.checkpoint": "xpnn.training.saving.model_file",
    "xpnn.training.confusion": "xpnn.training.metrics.confusion",
    "xpnn.training.feeding": "xpnn.training.data_feed",
    "xpnn.training.files": "xpnn.training.saving.atomic_write",
    "xpnn.training.finite": "xpnn.training.checks.nonfinite",
    "xpnn.training.graph": "xpnn.training.runners.cuda_graph",
    "xpnn.training.inputs": "xpnn.training.checks.inputs",
    "xpnn.training.interrupts": "xpnn.training.runners.interrupts",
    "xpnn.training.jitted": "xpnn.training.runners.jax_jit",
    "xpnn.training.lent": "xpnn.training.runners.torch_via_numpy",
    "xpnn.training.loggers": "xpnn.training.callbacks.loggers",
    "xpnn.training.monitor": "xpnn.training.callbacks.monitor",
    "xpnn.training.parts": "xpnn.training.checks.arguments",
    "xpnn.training.plain": "xpnn.training.runners.base",
    "xpnn.training.recorders": "xpnn.training.runners.capture",
    "xpnn.training.regression": "xpnn.training.metrics.regression",
    "xpnn.training.rehearsal": "xpnn.training.checks.shapes",
    "xpnn.training.room": "xpnn.training.checks.batch_memory",
}

#: Modules that became packages: the module that holds what the old one held.
PACKAGES = {
    "xpnn.nn.losses": "xpnn.nn.losses.elementwise",
    "xpnn.training.callbacks": "xpnn.training.callbacks.base",
    "xpnn.training.metrics": "xpnn.training.metrics.accuracy",
    "xpnn.training.runners": "xpnn.training.runners.select",
}

#: Names that changed, or that moved to another module than the rest of their old module.
NAMES = {
    "xpnn.arrays.accelerate": {
        "Accelerated": "xpnn.arrays.dispatch.Dispatched",
        "AcceleratedPair": "xpnn.arrays.dispatch.DispatchedPair",
        "accelerated": "xpnn.arrays.dispatch.dispatched",
    },
    "xpnn.arrays.buffers": {"identity": "xpnn.devices.buffers.memory_fingerprint"},
    "xpnn.arrays.device": {"place": "xpnn.devices.place.to_place"},
    "xpnn.arrays.products": {
        "check_precision": "xpnn.devices.precision.check_precision",
        "multiplying_in": "xpnn.arrays.matmul.matmul_precision",
        "precision": "xpnn.arrays.matmul.current_precision",
        "product": "xpnn.arrays.matmul.matmul",
    },
    "xpnn.arrays.random": {"kept": "xpnn.arrays.random.dropout_mask"},
    "xpnn.arrays.staging": {
        "CupyCopier": "xpnn.devices.libraries.cupy.CupyCopier",
        "TorchCopier": "xpnn.devices.libraries.torch.TorchCopier",
        "PinnedStage": "xpnn.devices.staging.PinnedStaging",
        "PlainStage": "xpnn.devices.staging.PlainStaging",
        "Stage": "xpnn.devices.staging.StagingBuffers",
        "stage_for": "xpnn.devices.staging.staging_for",
    },
    "xpnn.cli.building": {"distort": "xpnn.experiments.factory.distortion"},
    "xpnn.cli.downloads": {"download_progress": "xpnn.cli.terminal.downloads.DownloadDisplay"},
    "xpnn.cli.settings": {
        "OPTIMIZERS": "xpnn.experiments.settings.OPTIMIZERS_BY_NAME",
        "PRECISIONS": "xpnn.experiments.settings.NUMBER_FORMATS",
        "choose_place": "xpnn.cli.terminal.options.choose_place",
        "numbers": "xpnn.experiments.options.parse_numbers",
    },
    "xpnn.cli.console": {
        "counted": "xpnn.cli.terminal.console.pluralize",
        "people": "xpnn.cli.terminal.console.make_console",
        "say": "xpnn.cli.terminal.console.print_line",
        "shown": "xpnn.cli.terminal.console.escaped",
        "tell": "xpnn.cli.terminal.console.print_stderr",
    },
    "xpnn.errors": {
        "as_count": "xpnn.validation.as_count",
        "as_float": "xpnn.validation.as_float",
        "one_of": "xpnn.validation.one_of",
    },
    "xpnn.optim.clipping": {"shortened": "xpnn.optim.clipping.clip_by_global_norm"},
    "xpnn.training.feeding": {
        "Feed": "xpnn.training.data_feed.DataSource",
        "Orders": "xpnn.training.data_feed.EpochOrder",
        "Piece": "xpnn.training.data_feed.Chunk",
        "feed_for": "xpnn.training.data_feed.data_source",
    },
    "xpnn.training.finite": {"CURE": "xpnn.training.checks.nonfinite.HINT"},
    "xpnn.training.graph": {
        "GraphRunner": "xpnn.training.runners.cuda_graph.CudaGraphRunner",
        "Recorded": "xpnn.training.runners.cuda_graph.Recording",
    },
    "xpnn.training.inputs": {"stays_whole": "xpnn.training.checks.inputs.stays_integer"},
    "xpnn.training.jitted": {"JaxRunner": "xpnn.training.runners.jax_jit.JaxJitRunner"},
    "xpnn.training.lent": {"TorchOnCpuRunner": "xpnn.training.runners.torch_via_numpy.TorchViaNumpyRunner"},
    "xpnn.training.metrics": {"RECORD": "xpnn.training.metrics.base.RESERVED_NAMES"},
    "xpnn.training.plain": {
        "Job": "xpnn.training.runners.base.RunnerSpec",
        "copied": "xpnn.training.runners.base.copy_on_device",
        "written": "xpnn.training.runners.base.write_fields",
        "PlainRunner": "xpnn.training.runners.eager.EagerRunner",
        "computing": "xpnn.training.runners.base.compute_scope",
    },
    "xpnn.training.recorders": {
        "Again": "xpnn.training.runners.capture.EagerReplay",
        "CupyGraphs": "xpnn.devices.libraries.cupy.CupyGraphs",
        "Recorder": "xpnn.devices.libraries.base.GraphRecorder",
        "TorchGraphs": "xpnn.devices.libraries.torch.TorchGraphs",
    },
    "xpnn.training.rehearsal": {"Rehearsal": "xpnn.training.checks.shapes.ShapeCheck"},
    "xpnn.training.room": {
        "at": "xpnn.training.checks.batch_memory.device_scope",
        "make_room": "xpnn.training.checks.batch_memory.ensure_batch_fits",
        "short_of_memory": "xpnn.training.checks.batch_memory.memory_facts",
    },
    "xpnn.training.step": {
        "Step": "xpnn.training.step.TrainingStep",
        "booked": "xpnn.training.totals.update_totals",
        "empty_totals": "xpnn.training.state.empty_totals",
        "evaluation_step": "xpnn.training.step.EvaluationStep",
        "first_state": "xpnn.training.state.first_state",
        "follow": "xpnn.training.totals.ema_update",
        "result": "xpnn.training.totals.epoch_logs",
        "training_step": "xpnn.training.step.TrainingStep",
    },
}

_warned: set[str] = set()


def warn_moved(old: str, new: str) -> None:
    """Warn, once for each `old` name, that it has moved to `new`; the warning points at the line of the caller."""
    if old in _warned:
        return
    frame = _caller(sys._getframe(1))
    warnings.warn_explicit(
        f"{old} has moved to {new}; the old name will be removed in the next release",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
    _warned.add(old)  # after the warning: under the filter "error" it raises, and must raise again


def resolver(module: str) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for `module`, which finds the names that the module used to hold."""

    def resolve(name: str) -> Any:
        old = f"{module}.{name}"
        if old in MODULES:  # the attribute of a package that used to be a submodule
            return import_module(old)
        new = NAMES.get(module, {}).get(name)
        home = MODULES.get(module) or PACKAGES.get(module)
        if new is not None:
            warn_moved(old, new)
        elif home is None or (name.startswith("__") and name != "__all__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        elif module in MODULES and name == "__all__":
            return [*(name for name in dir(import_module(home)) if not name.startswith("_")), *NAMES.get(module, {})]
        else:
            new = f"{home}.{name}"
        target, _, attribute = new.rpartition(".")
        try:
            value = getattr(import_module(target), attribute)
        except AttributeError:
            raise AttributeError(f"module {module!r} has no attribute {name!r}") from None
        if module in PACKAGES:
            warn_moved(old, new)
        return value

    return resolve


def attach(module: str) -> None:
    """Give `module` a ``__getattr__`` for the names that it used to hold; the module itself calls this."""
    sys.modules[module].__dict__["__getattr__"] = resolver(module)


def renamed_attribute(owner: str, old: str, new: str) -> Any:
    """Return a property that stands for the attribute `new` under its `old` name."""

    def get(self: Any) -> Any:
        warn_moved(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(self, new)

    return property(get, doc=f"The old name of `{new}`.")


class _Finder:
    """Finds the modules in `MODULES` under their old names."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, _Loader()) if name in MODULES else None  # type: ignore[arg-type]


class _Loader:
    """Fills an alias module: each attribute is looked up in the new module when it is used."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        warn_moved(old, MODULES[old])
        module.__doc__ = f"The old name of `{MODULES[old]}`."
        module.__dict__["__getattr__"] = resolver(old)


def install() -> None:
    """Install the import hook."""
    # First, not last: a folder of the old name with nothing but compiled files in it would be found before.
    sys.meta_path.insert(0, _Finder)


def _caller(frame: FrameType) -> FrameType:
    """Return the nearest frame outside this file and the import system."""
    while frame.f_back is not None and (
        frame.f_code.co_filename == __file__
        or frame.f_globals.get("__name__", "").startswith(("importlib", "_frozen_importlib"))
    ):
        frame = frame.f_back
    return frame
