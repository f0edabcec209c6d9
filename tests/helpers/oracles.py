"""What torch lacks, said in torch: optimizers that the table holds ours to. Each `step` goes by the `.grad`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TORCH = Any


class Lion:
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, torch: TORCH, params: list[Any], lr: float, beta1: float, beta2: float, decay: float) -> None:
        self.torch, self.params, self.settings = torch, params, (lr, beta1, beta2, decay)
        self.momenta = [torch.zeros_like(p) for p in params]

    def step(self) -> None:
        lr, beta1, beta2, decay = self.settings
        with self.torch.no_grad():
            for p, m in zip(self.params, self.momenta, strict=True):
                update = self.torch.sign(m.lerp(p.grad, 1 - beta1))
                p.sub_(lr * (update + decay * p))
                m.lerp_(p.grad, 1 - beta2)


class Muon:
    """Jordan et al. 2024, on weights laid out as torch's, (out, in), for the matrices; AdamW for all else."""

    def __init__(self, torch: TORCH, params: list[Any], lr: float, adamw_lr: float, **options: Any) -> None:
        self.torch, self.lr = torch, lr
        self.matrices = [p for p in params if p.ndim == 2]
        self.momenta = [torch.zeros_like(p.T) for p in self.matrices]
        self.decay, self.momentum = options.pop("decay"), options.pop("momentum", 0.95)
        self.nesterov, self.match = options.pop("nesterov", True), options.pop("match", False)
        self.adamw = torch.optim.AdamW([p for p in params if p.ndim != 2], adamw_lr, **options)

    def step(self) -> None:
        self.adamw.step()
        with self.torch.no_grad():
            for p, m in zip(self.matrices, self.momenta, strict=True):
                g = p.grad.T
                m.lerp_(g, 1 - self.momentum)
                update = g.lerp(m, self.momentum) if self.nesterov else m
                out, inside = g.shape
                scale = 0.2 * max(out, inside) ** 0.5 if self.match else max(1, out / inside) ** 0.5
                p.mul_(1 - self.lr * self.decay)
                p.sub_(self.lr * scale * self.newton_schulz(update).T)

    def newton_schulz(self, g: Any) -> Any:
        x = g / (self.torch.linalg.norm(g) + 1e-7)
        if g.shape[0] > g.shape[1]:
            x = x.T
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.T if g.shape[0] > g.shape[1] else x


class Clipped:
    """A torch optimizer whose gradients one of torch's functions clips before each step."""

    def __init__(self, optimizer: Any, params: list[Any], clip: Callable[..., Any], limit: float) -> None:
        self.optimizer, self.params, self.clip, self.limit = optimizer, params, clip, limit

    def step(self) -> None:
        self.clip(self.params, self.limit)
        self.optimizer.step()


class InFloat64:
    """A torch optimizer that keeps its scalars (NAdam's product of μ) in the default dtype: here, in float64."""

    def __init__(self, torch: TORCH, optimizer: Any) -> None:
        self.torch, self.optimizer = torch, optimizer

    def step(self) -> None:
        before = self.torch.get_default_dtype()
        self.torch.set_default_dtype(self.torch.float64)
        try:
            self.optimizer.step()
        finally:
            self.torch.set_default_dtype(before)
