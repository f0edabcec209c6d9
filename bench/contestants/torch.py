"""PyTorch: tensors gathered by index (no DataLoader, which is slower), sums kept on tensors and read once an epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from bench.networks import Row, Weights


class Contestant:
    """fused: as torch.optim takes it, None for its own choice. compiled: torch.compile of model and loss."""

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, fused: bool | None, compiled: bool = False
    ) -> None:
        layers: list[torch.nn.Module] = []
        for (weight, bias), p in zip(weights, (*row.dropout, None), strict=True):
            linear = torch.nn.Linear(*weight.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weight.T.copy()))
                linear.bias.copy_(torch.from_numpy(bias))
            layers.append(linear)
            if p is not None:
                layers.append(torch.nn.ReLU())
            if p:
                layers.append(torch.nn.Dropout(p))
        self.model = torch.nn.Sequential(*layers)
        kind = torch.optim.Adam if row.optimizer == "adam" else torch.optim.SGD
        self.optimizer = kind(self.model.parameters(), lr=row.lr, fused=fused)
        loss = torch.nn.CrossEntropyLoss()

        def forward(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.model(x)
            return loss(logits, y), logits

        self.forward = torch.compile(forward) if compiled else forward
        self.x, self.y, self.batch = torch.from_numpy(x), torch.from_numpy(y), row.batch
        self.ways = {"": self.run}

    def step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, logits = self.forward(x, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), logits.detach()

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for rows in torch.randperm(len(self.y)).split(self.batch):
                y = self.y[rows]
                loss, logits = self.step(self.x[rows], y)
                total += loss * len(rows)
                right += (logits.argmax(1) == y).sum()
            total.item(), right.item()
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        return [self.step(torch.from_numpy(x), torch.from_numpy(y))[0].item() for x, y in batches]
