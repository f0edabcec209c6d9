"""Shared by the contestants on PyTorch: the network with its data, optimizer, precision and graph capture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bench.networks import Row, Weights


class Network(torch.nn.Module):
    """forward(rows) returns the mean loss of these rows of the data, and the number of correct predictions.

    The data are buffers of the module, because CUDA graphs, including those of torch.compile, read static addresses.
    """

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        super().__init__()
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        self.kind, self.is_bf16 = torch.device(device).type, precision == "bf16"
        layers: list[torch.nn.Module] = []
        for (weight, _), p in zip(weights, (*row.dropout, None), strict=True):
            hidden = p is not None
            layers.append(torch.nn.Linear(*weight.shape, bias=not (hidden and row.norm == "batch")))
            if hidden and row.norm:
                layers.append({"batch": torch.nn.BatchNorm1d, "layer": torch.nn.LayerNorm}[row.norm](weight.shape[1]))
            if hidden:
                layers.append({"relu": torch.nn.ReLU, "gelu": torch.nn.GELU}[row.activation]())
            if p:
                layers.append(torch.nn.Dropout(p))
        self.layers = torch.nn.Sequential(*layers)
        self.load(weights)
        self.register_buffer("x", torch.from_numpy(x))
        self.register_buffer("y", torch.from_numpy(y))
        self.to(device)

    def load(self, weights: Weights) -> None:
        """Set the weights."""
        linears = [layer for layer in self.layers if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            for linear, (weight, bias) in zip(linears, weights, strict=True):
                linear.weight.copy_(torch.from_numpy(weight).T)
                if linear.bias is not None:
                    linear.bias.copy_(torch.from_numpy(bias))

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
        if self.is_bf16:
            with torch.autocast(self.kind, torch.bfloat16, cache_enabled=False):  # each weight is used once
                logits = self.layers(x).float()
        else:
            logits = self.layers(x)
        return torch.nn.functional.cross_entropy(logits, y), (logits.detach().argmax(1) == y).sum()


def compiled(network: Network, mode: str | None) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return its forward, compiled by torch.compile if there is a mode. Parts that cannot be compiled are an error."""
    if mode is None:
        return network
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(network, mode=mode, fullgraph=True, dynamic=False)


def optimizer(row: Row, network: Network, fused: bool | None) -> torch.optim.Optimizer:
    """fused: argument of torch.optim; None for its default."""
    if row.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=row.lr, fused=fused)
    return torch.optim.Adam(network.parameters(), lr=row.lr, fused=fused, amsgrad=row.optimizer == "amsgrad")


def recorded(work: Callable[[], None], device: str) -> Callable[[], None]:
    """Warm up `work` with three runs, and return a function that replays it as a CUDA graph; on the CPU, `work`."""
    if torch.device(device).type != "cuda":
        work()
        return work
    here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    here.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def natural_order(row: Row, device: str) -> torch.Tensor:
    """Return the row numbers in order, (steps, batch)."""
    return torch.arange(row.steps * row.batch, device=device).view(row.steps, row.batch)
