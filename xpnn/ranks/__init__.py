"""Several processes as one: each computes a part of every batch, and the sums are those of the whole batch.

Each process is a rank, numbered from 0. All ranks run the same program with the same data. With `Trainer(…,
ranks=mpi())`, N ranks are the experiment of one: the same weights, batches and dropout masks, and the same losses and
metrics to rounding.

base.py        the interface `Ranks`, and `Share`, the rows of a batch that a rank computes
with_mpi.py    processes that mpiexec or srun has started, by mpi4py; imported when `mpi` is called
with_torch.py  processes that torchrun has started, by torch.distributed; imported when `torch` is called
with_jax.py    all devices of JAX, in one or several processes; imported when `jax` is called
ending.py      how processes end together
threads.py     threads of one process, for tests
"""

from collections.abc import Callable

from xpnn.ranks.base import Ranks, Share, share_of
from xpnn.ranks.threads import run_threads

__all__ = ["Ranks", "Share", "jax", "mpi", "run_threads", "share_of", "torch"]


def mpi(timeout: float = 300.0, *, blocks: int | None = None) -> Ranks:
    """Return the processes that ``mpiexec -n N python script.py`` or srun has started.

    An exception that ends one process ends all of them, with the message of that process. It needs mpi4py
    (``pip install "xpnn[mpi]"``) and an MPI library.

    Parameters
    ----------
    timeout : float, default 300.0
        If a process waits this many seconds for the others, one of them stands still, and all are ended.
    blocks : int, optional
        The number of blocks in which each batch is computed, at least the number of processes. The results are then
        the same bits for any number of processes, if each of them has the same number of threads. It takes more
        memory and more time: every process receives the gradients of all blocks. Not with `nn.BatchNorm1d` or other
        layers that use statistics of the batch, and not on GPUs. By default each process computes one part, and the
        results are equal to rounding.

    Returns
    -------
    Ranks
        A single rank, if the process was started without mpiexec.

    Raises
    ------
    InputError
        If mpi4py or the MPI library is missing, the time-out is not above 0, or `blocks` is not a positive integer.

    Examples
    --------
    ::

        # mpiexec -n 4 python script.py
        trainer = Trainer(model, loss, optimizer, ranks=xpnn.ranks.mpi())
        history = trainer.fit(x, y, epochs=10, batch_size=512)
    """
    from xpnn.ranks.with_mpi import open_ranks

    return open_ranks(timeout, blocks)


def torch(timeout: float = 300.0, *, blocks: int | None = None) -> Ranks:
    """Return the processes that ``torchrun --nproc-per-node N script.py`` has started, as torch.distributed joins them.

    The arrays may be NumPy's or torch's. An exception that ends one process ends all of them, with the message of that
    process. At the end of the program, the processes wait for each other. It needs torch (``pip install
    "xpnn[torch]"``).

    Parameters
    ----------
    timeout : float, default 300.0
        If a process waits this many seconds for the others, one of them stands still, and all are ended.
    blocks : int, optional
        The number of blocks in which each batch is computed, as for `mpi`.

    Returns
    -------
    Ranks
        A single rank, if the process was started without torchrun and the environment has no RANK, WORLD_SIZE,
        MASTER_ADDR and MASTER_PORT. A later call returns the same ranks, with the time-out of the first
        and with its own `blocks`.

    Raises
    ------
    InputError
        If torch is missing or was built without torch.distributed, if that is initialized already, if the time-out is
        not above 0, or if `blocks` is not a positive integer.
    XpnnError
        If the processes cannot be connected.

    Examples
    --------
    ::

        # torchrun --nproc-per-node 4 script.py
        trainer = Trainer(model, loss, optimizer, ranks=xpnn.ranks.torch())
        history = trainer.fit(x, y, epochs=10, batch_size=512)
    """
    from xpnn.ranks.with_torch import open_ranks

    return open_ranks(timeout, blocks)


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
ENGINES: dict[str, Callable[..., Ranks]] = {engine.__name__: engine for engine in (mpi, torch, jax)}
