"""Several processes as one: each computes a part of every batch, and the sums are those of the whole batch.

Each process is a rank, numbered from 0. All ranks run the same program with the same data. With `Trainer(…,
ranks=mpi())`, N ranks are the experiment of one: the same weights, batches and dropout masks, and the same losses and
metrics to rounding.

base.py      the interface `Ranks`, and `Share`, the rows of a batch that a rank computes
with_mpi.py  processes that mpiexec or srun has started, by mpi4py; imported when `mpi` is called
threads.py   threads of one process, for tests
"""

from xpnn.ranks.base import Ranks, Share, share_of
from xpnn.ranks.threads import run_threads

__all__ = ["Ranks", "Share", "mpi", "run_threads", "share_of"]


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
        memory and more time: every process receives the gradients of all blocks. Not with `nn.BatchNorm1d`, nor with
        other layers that use statistics of the batch. By default each process computes one part, and the results are
        equal to rounding.

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
