"""PyTorch with a hand-written capture: whole steps, from gather to update, as one CUDA graph with static buffers."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from bench.networks import Row, Weights
from bench.torch_parts import Network, compiled, natural_order, recorded

MOST = 16  # steps in a graph; the largest number up to this that divides the epoch


class Contestant:
    """The row numbers of several steps are copied to a buffer, then the graph is replayed. The optimizer is fused.

    mode: argument of torch.compile, for gather, model and loss together, inside the graph
    """

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, mode: str | None = None,
        device: str = "cpu", precision: str = "fp32",
    ) -> None:  # fmt: skip
        network = Network(row, x, y, weights, device, precision)
        self.forward = compiled(network, mode)
        is_cuda = torch.device(device).type == "cuda"
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(network.parameters(), lr=row.lr, fused=True, capturable=is_cuda)
            if row.optimizer == "adam"
            else torch.optim.SGD(network.parameters(), lr=row.lr, fused=True)
        )
        self.row, self.device = row, device
        self.steps = max(steps for steps in range(1, MOST + 1) if row.steps % steps == 0)
        self.rows = natural_order(row, device)[: self.steps].clone()
        self.total = torch.zeros(self.steps, device=device)  # Σ loss of the first step of each replay, of the second, …
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.replay = recorded(self.work, device)
        network.load(weights)  # undo the warm-up, in place
        for state in self.optimizer.state.values():
            for part in state.values():
                part.zero_()
        self.ways = {"": self.run, "bare": self.bare}

    def work(self) -> None:
        for step in range(self.steps):
            loss, right = self.forward(self.rows[step])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()  # sets them to None, so that new gradients are in the graph's memory
            self.total[step].add_(loss.detach())
            self.right.add_(right)

    def epoch(self, order: torch.Tensor) -> None:
        self.total.zero_()
        self.right.zero_()
        for rows in order.view(-1, self.steps, self.row.batch):
            self.rows.copy_(rows)
            self.replay()

    def read(self) -> None:
        self.total.sum().item(), self.right.item()

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            self.epoch(torch.randperm(self.row.steps * self.row.batch, device=self.device))
            self.read()
        return time.perf_counter() - start

    def bare(self, epochs: int) -> float:
        order = torch.randperm(self.row.steps * self.row.batch, device=self.device)
        self.read()  # waits for the device
        start = time.perf_counter()
        for _ in range(epochs):
            self.epoch(order)
        self.read()
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Use the graph that is measured, which may take a few more steps than there are batches."""
        found: list[float] = []
        parts = natural_order(self.row, self.device).view(-1, self.steps, self.row.batch)
        while len(found) < len(batches):
            self.epoch(parts[len(found) // self.steps % len(parts)])
            found += self.total.tolist()
        return found[: len(batches)]
