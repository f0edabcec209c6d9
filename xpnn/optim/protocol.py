"""The interfaces `Optimizer` and `Schedule`, and helpers that the optimizers share.

`Optimizer` states all rules for custom optimizers, with an example. `zeros` and `scalar` make their initial states;
`settle` checks and converts the fields of the built-in optimizers.
"""

from __future__ import annotations

from typing import Any, Protocol

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError
from xpnn.validation import Problems, as_float


class Schedule(Protocol):
    """A learning rate that changes during training: a pure function of the step.

    A custom schedule is any callable of this signature; it must be picklable to be saved with a trainer, so prefer a
    frozen dataclass to a lambda.
    """

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : 0-d float array
            Number of steps taken before this one.
        steps_per_epoch : 0-d float array
            Number of steps in an epoch, of the same dtype as `step`.

        Returns
        -------
        0-d array
            The learning rate, of the same dtype as `step`.
        """


class Optimizer(Protocol):
    """The interface of an optimizer: a frozen dataclass with `lr` and these two methods.

    To write a custom optimizer, define a frozen dataclass whose fields are the hyperparameters. It works in `Trainer`
    like a built-in one; no base class, registration or kernel is needed.

    Notes
    -----
    Trees
        `params` and `grads` are nested tuples of arrays, with None for what is not trained.
        ``xpnn.arrays.tree.map(f, params, grads)`` applies a function to them leaf by leaf; it returns one tree, so call
        it once for the parameters and once for each moment. A model without parameters has no leaves.
    State
        Everything that changes between steps is an array in the state, the number of steps too: a Python number would
        be frozen into a compiled or captured step. `zeros` and `scalar` of this module return initial moments and an
        initial number.
    Learning rate
        `update` receives it as `lr`: the value of the schedule, if there is one, times `lr_scale`. Do not use
        ``self.lr`` there.
    Functions
        ``xp = array_namespace(p)`` of a leaf, from `xpnn.arrays.namespace`. The rules of `xpnn.nn.Layer` for functions,
        dtype and device apply: no ``if`` or ``float()`` on an array, and Python numbers as constants. A trainer for
        torch on the CPU may call `update` with NumPy arrays.
    Checks
        `xpnn.testing.check_optimizer` checks a custom optimizer on every library and device of the machine.

    Examples
    --------
    Gradient descent with a momentum that is corrected for its start at 0, as in Adam:

    >>> from dataclasses import dataclass
    >>> from typing import Any, NamedTuple
    >>> from xpnn import find_place
    >>> from xpnn.arrays import tree
    >>> from xpnn.optim.protocol import scalar, zeros
    >>> from xpnn.testing import check_optimizer
    >>> class MomentumState(NamedTuple):
    ...     count: Any  # 0-d
    ...     m: Any  # a tree like the parameters
    >>> @dataclass(frozen=True)
    ... class CorrectedMomentum:
    ...     lr: Any = 0.1
    ...     beta: float = 0.9
    ...
    ...     def init(self, params):
    ...         return MomentumState(scalar(params, 0.0), zeros(params))
    ...
    ...     def update(self, params, grads, state, lr, *, donate=False):
    ...         if not tree.leaves(params):
    ...             return params, state
    ...         count = state.count + 1
    ...         rate = lr / (1 - self.beta**count)
    ...         m = tree.map(lambda m, g: self.beta * m + (1 - self.beta) * g, state.m, grads)
    ...         params = tree.map(lambda p, m: p - rate * m, params, m)
    ...         return params, MomentumState(count, m)
    >>> check_optimizer(CorrectedMomentum(), places=[find_place("cpu", "numpy")]).ok  # places=None for all of them
    True
    """

    @property
    def lr(self) -> float | Schedule:
        """The learning rate before it is multiplied by `lr_scale`: a number, or a schedule.

        `Trainer` reads it, and passes its value at each step to `update`.
        """

    def init(self, params: Tree) -> Any:
        """Return the initial state for these parameters.

        Parameters
        ----------
        params : tree of arrays
            The parameters, on the device on which they are trained, in the dtype of the training.

        Returns
        -------
        state
            A tree of arrays on the device of the parameters, () for none. It shares no memory with them.
        """

    def update(self, params: Tree, grads: Tree, state: Any, lr: Array, *, donate: bool = False) -> tuple[Tree, Any]:
        """Take one step.

        Parameters
        ----------
        params, grads : trees of arrays
            The parameters and their gradients, of the same structure.
        state
            What `init` or the previous `update` returned.
        lr : 0-d array
            The learning rate of this step, in the dtype of the parameters and on their device.
        donate : bool
            If True, `params`, `grads` and `state` may be overwritten, and their memory reused for the result. It may be
            ignored. If False, they must not be changed.

        Returns
        -------
        params, state
            The new parameters and the new state, with the structure, shapes and dtypes of the old ones.
        """


def learning_rate(lr: float | Schedule, step: Array, steps_per_epoch: Array) -> float | Array:
    """Return `lr` if it is a number, else the value of the schedule at this step: 0-d, of the dtype of `step`."""
    return lr(step, steps_per_epoch) if callable(lr) else lr


def settle(optimizer: Any, betas: str | None = None, /, **limits: float) -> None:
    """Convert the named fields to Python floats, and raise InputError unless each is in [0, its limit).

    A field `lr` that holds a schedule is left as it is. The field whose name is `betas` has two numbers in
    [0, 1).
    """
    name, problems, wrong = type(optimizer).__name__, Problems(), {}
    for field, limit in limits.items():
        with problems:
            if field == "lr" and callable(optimizer.lr):
                _check_schedule(name, optimizer.lr)
                continue
            value = as_float(f"{name}: {field}", getattr(optimizer, field))
            object.__setattr__(optimizer, field, value)
            if not 0 <= value < limit:
                wrong[f"{field} = {value!r}"] = f"0 <= {field} < {limit:g}"
    with problems:
        if wrong:
            raise InputError(f"{name}: {', '.join(wrong)}; expected {', '.join(wrong.values())}")
    with problems:
        if betas is not None:
            _settle_betas(optimizer, betas)
    problems.raise_found()


def _check_schedule(name: str, schedule: Any) -> None:
    if isinstance(schedule, type):
        raise InputError(f"{name}: lr: {schedule.__name__} is a class; write {schedule.__name__}(…)")


def _settle_betas(optimizer: Any, field: str) -> None:
    name, betas = type(optimizer).__name__, getattr(optimizer, field)
    if not isinstance(betas, (tuple, list)):
        raise InputError(f"{name}: {field} is {betas!r}; expected two numbers, 0 <= beta < 1")
    betas = tuple(as_float(f"{name}: {field}", beta) for beta in betas)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise InputError(f"{name}: {field} is {betas!r}; expected two numbers, 0 <= beta < 1")
    object.__setattr__(optimizer, field, betas)


def zeros(params: Tree) -> Tree:
    """Return zeros of the shapes of the parameters; each leaf owns its memory."""
    return tree.map(lambda p: array_namespace(p).zeros_like(p), params)


def scalar(params: Tree, value: float) -> Tree:
    """Return `value` as a 0-d array of the parameters' dtype and on their device; () if there are no parameters."""
    leaves = tree.leaves(params)
    if not leaves:
        return ()
    return array_namespace(leaves[0]).full((), value, dtype=leaves[0].dtype, device=device_of(leaves[0]))
