"""PyTorch: batches gathered by index (a DataLoader is slower); sums are kept in tensors and read once per epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from bench.networks import Row, Weights
from bench.torch_parts import Network, compiled, natural_order, optimizer


class Contestant:
    """fused: argument of torch.optim. mode: argument of torch.compile, for gather, model and loss together."""

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, fused: bool | None,
        mode: str | None = None, bare: bool = False, device: str = "cpu", precision: str = "fp32",
    ) -> None:  # fmt: skip
        network = Network(row, x, y, weights, device, precision)
        self.forward = compiled(network, mode)
        self.optimizer, self.parameters = optimizer(row, network, fused), list(network.parameters())
        self.row, self.device, self.is_compiled = row, device, mode is not None
        self.ways = {"": self.run, "bare": self.bare} if bare else {"": self.run}

    def step(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.is_compiled:
            torch.compiler.cudagraph_mark_step_begin()  # outputs of the previous step may be overwritten
        loss, right = self.forward(rows)
        loss.backward()
        if self.row.max_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.row.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach(), right

    def epoch(self, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return Σ loss and the number of correct predictions, on the device."""
        total, answers = torch.zeros((), device=self.device), torch.zeros((), dtype=torch.int64, device=self.device)
        for rows in order.split(self.row.batch):
            loss, right = self.step(rows)
            total.add_(loss, alpha=len(rows))
            answers.add_(right)
        return total, answers

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            total, answers = self.epoch(torch.randperm(self.row.steps * self.row.batch, device=self.device))
            total.item(), answers.item()
        return time.perf_counter() - start

    def bare(self, epochs: int) -> float:
        order = torch.randperm(self.row.steps * self.row.batch, device=self.device)
        order[0].item()  # waits for the device
        start = time.perf_counter()
        for _ in range(epochs):
            total, answers = self.epoch(order)
        total.item(), answers.item()
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        order = natural_order(self.row, self.device)
        return [self.step(order[i % self.row.steps])[0].item() for i in range(len(batches))]
