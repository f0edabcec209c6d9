"""Several processes as one: each computes a part of every batch, and the sums are those of the whole batch.

Each process is a rank, numbered from 0. All ranks run the same program with the same data. With `Trainer(…,
ranks=mpi())`, N ranks are the experiment of one: the same weights, batches and dropout masks, and the same losses and
metrics to rounding.

base.py      the interface `Ranks`, and `Share`, the rows of a batch that a rank computes
with_mpi.py  processes that mpiexec or srun has started, by mpi4py; imported when `mpi` is called
with_jax.py  all devices of JAX, in one or several processes; imported when `jax` is called
threads.py   threads of one process, for tests
"""

from collections.abc import Callable

from xpnn.ranks.base import Ranks, Share, share_of
from xpnn.ranks.threads import run_threads

__all__ = ["Ranks", "Share", "jax", "mpi", "run_threads", "share_of"]


def mpi(timeout: float = 300.0) -> Ranks:
    """Return the processes that ``mpiexec -n N python script.py`` or srun has started.

    An exception that ends one process ends all of them, with the message of that process. It needs mpi4py
    (``pip install "xpnn[mpi]"``) and an MPI library.

    Parameters
    ----------
    timeout : float, default 300.0
        If a process waits this many seconds for the others, one of them stands still, and all are ended.

    Returns
    -------
    Ranks
        A single rank, if the process was started without mpiexec.

    Raises
    ------
    InputError
        If mpi4py or the MPI library is missing, or the time-out is not above 0.

    Examples
    --------
    ::

        # mpiexec -n 4 python script.py
        trainer = Trainer(model, loss, optimizer, ranks=xpnn.ranks.mpi())
        history = trainer.fit(x, y, epochs=10, batch_size=512)
    """
    from xpnn.ranks.with_mpi import open_ranks

    return open_ranks(timeout)


def jax(timeout: float = 300.0) -> Ranks:
    """Return all devices of JAX as one, in this process or in several.

    JAX itself divides the rows of each batch among the devices. A batch whose rows cannot be divided by the number of
    devices is computed as a whole by each of them. Every device has all of the data and parameters.

    Several processes are those that mpiexec or srun has started, or those with the variables
    ``JAX_COORDINATOR_ADDRESS`` (host:port of the first process), ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``; they are
    connected by `jax.distributed`, unless that is done already. In several processes, all must call `fit`, `evaluate`
    and `predict` alike.

    Parameters
    ----------
    timeout : float, default 300.0
        If a process is not heard of for this many seconds, all are ended; at least 1.

    Returns
    -------
    Ranks

    Raises
    ------
    InputError
        If JAX is missing, or the processes cannot be connected.

    Examples
    --------
    ::

        # XLA_FLAGS=--xla_force_host_platform_device_count=4 python script.py  (four devices on a CPU, to try it)
        trainer = Trainer(model, loss, optimizer, ranks=xpnn.ranks.jax())
        history = trainer.fit(x, y, epochs=10, batch_size=512)
    """
    from xpnn.ranks.with_jax import open_ranks

    return open_ranks(timeout)


#: By the names of the command's option ``--ranks``.
ENGINES: dict[str, Callable[[float], Ranks]] = {engine.__name__: engine for engine in (mpi, jax)}
