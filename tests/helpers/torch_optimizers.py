"""Reference optimizers in torch, by the name of their row. Each `step` uses the `.grad` of the parameters."""

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
    """Jordan et al. 2024 for matrices in torch's layout (out, in); AdamW for all other parameters."""

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
    """A torch optimizer with gradients clipped by one of torch's functions before each step."""

    def __init__(self, optimizer: Any, params: list[Any], clip: Callable[..., Any], limit: float) -> None:
        self.optimizer, self.params, self.clip, self.limit = optimizer, params, clip, limit

    def step(self) -> None:
        self.clip(self.params, self.limit)
        self.optimizer.step()


class StepVelocity:
    """Sutskever et al. 2013, as in scikit-learn: the velocity contains the learning rate."""

    def __init__(self, torch: TORCH, params: list[Any], lr: float, momentum: float, decay: float, nesterov: bool):
        self.torch, self.params, self.settings = torch, params, (lr, momentum, decay, nesterov)
        self.velocity = [torch.zeros_like(p) for p in params]

    def step(self) -> None:
        lr, momentum, decay, nesterov = self.settings
        with self.torch.no_grad():
            for p, v in zip(self.params, self.velocity, strict=True):
                step = lr * (p.grad + decay * p)
                v.mul_(momentum).sub_(step)
                p.add_(momentum * v - step if nesterov else v)


class AdamEpsHat:
    """Kingma and Ba 2015, the last paragraph of section 2."""

    def __init__(self, torch: TORCH, params: list[Any], lr: float, betas: Any, eps: float, decay: float, largest: bool):
        self.torch, self.params, self.settings = torch, params, (lr, *betas, eps, decay, largest)
        self.t, self.moments = 0, [[torch.zeros_like(p) for _ in range(3)] for p in params]

    def step(self) -> None:
        lr, beta1, beta2, eps, decay, largest = self.settings
        self.t += 1
        rate = lr * (1 - beta2**self.t) ** 0.5 / (1 - beta1**self.t)
        with self.torch.no_grad():
            for p, (m, v, v_max) in zip(self.params, self.moments, strict=True):
                g = p.grad + decay * p
                m.mul_(beta1).add_(g, alpha=1 - beta1)
                v.mul_(beta2).add_(g**2, alpha=1 - beta2)
                v_max.copy_(self.torch.maximum(v_max, v))
                p.sub_(rate * m / ((v_max if largest else v).sqrt() + eps))


class InFloat64:
    """A torch optimizer that keeps scalars (NAdam's product of μ) in the default dtype, set to float64 here."""

    def __init__(self, torch: TORCH, optimizer: Any) -> None:
        self.torch, self.optimizer = torch, optimizer

    def step(self) -> None:
        before = self.torch.get_default_dtype()
        self.torch.set_default_dtype(self.torch.float64)
        try:
            self.optimizer.step()
        finally:
            self.torch.set_default_dtype(before)


#: By the name of the row: (torch, parameters) -> torch's optimizer.
OPTIMIZER_ORACLES: dict[str, Callable[[TORCH, list[Any]], Any]] = {
    "SGD": lambda t, p: t.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True),
    "SGD: plain": lambda t, p: t.optim.SGD(p, 0.1),
    "SGD: momentum": lambda t, p: t.optim.SGD(p, 0.1, 0.9),
    "SGD: lr in velocity": lambda t, p: StepVelocity(t, p, 0.1, 0.9, 0.01, True),
    "SGD: lr in velocity, plain": lambda t, p: StepVelocity(t, p, 0.1, 1.0, 0.0, False),
    "RMSprop": lambda t, p: t.optim.RMSprop(p, 0.01, 0.9, 1e-4, 0.1, 0.8),
    "RMSprop: plain": lambda t, p: t.optim.RMSprop(p, 0.01),
    "Adagrad": lambda t, p: t.optim.Adagrad(p, 0.1, 0, 0.2, 0.5, 1e-3),
    "Adagrad: plain": lambda t, p: t.optim.Adagrad(p, 0.1),
    "Adam": lambda t, p: t.optim.Adam(p, 0.1, amsgrad=True),
    "Adam: plain": lambda t, p: t.optim.Adam(p, 0.01),
    "Adam: weight decay": lambda t, p: t.optim.Adam(p, 0.01, (0.8, 0.95), 1e-6, 0.1),
    "Adam: epsilon hat": lambda t, p: AdamEpsHat(t, p, 0.01, (0.8, 0.95), 1e-2, 0.1, False),
    "Adam: epsilon hat, AMSGrad": lambda t, p: AdamEpsHat(t, p, 0.01, (0.9, 0.999), 1e-3, 0.0, True),
    "AdamW": lambda t, p: t.optim.AdamW(p, 0.01, weight_decay=0.3),
    "AdamW: AMSGrad": lambda t, p: t.optim.AdamW(p, 0.01, (0.7, 0.9), amsgrad=True),
    "NAdam": lambda t, p: InFloat64(t, t.optim.NAdam(p, 0.01)),
    "NAdam: weight decay": lambda t, p: InFloat64(t, t.optim.NAdam(p, 0.01, (0.8, 0.95), 1e-6, 0.1, 0.05)),
    "NAdam: decoupled": lambda t, p: InFloat64(
        t, t.optim.NAdam(p, 0.01, weight_decay=0.3, decoupled_weight_decay=True)
    ),
    "Lion": lambda t, p: Lion(t, p, 0.01, 0.9, 0.99, 0.0),
    "Lion: weight decay": lambda t, p: Lion(t, p, 0.02, 0.7, 0.8, 0.3),
    "Muon": lambda t, p: Muon(t, p, 0.02, 0.02, decay=0.1),
    "Muon: every option": lambda t, p: Muon(
        t, p, 0.02, 0.01, decay=0.3, momentum=0.8, nesterov=False, match=True,
        betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2,
    ),
    "ClipGradNorm": lambda t, p: Clipped(t.optim.SGD(p, 0.1, 0.9), p, t.nn.utils.clip_grad_norm_, 2.0),
    "ClipGradValue": lambda t, p: Clipped(t.optim.SGD(p, 0.1, 0.9), p, t.nn.utils.clip_grad_value_, 0.7),
}  # fmt: skip
