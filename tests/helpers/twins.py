"""Build the torch twin of a network, its loss and its optimizer, for comparison in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch_optimizers
from networks import Plan

from xpnn import nn, optim


class Result(NamedTuple):
    """The mean loss of each epoch, and the expected `tree.leaves` of our parameters after the last epoch."""

    losses: list[float]
    leaves: list[np.ndarray]
    prediction: np.ndarray
    evaluated: float


class Fixed(torch.nn.Module):
    """y = (x − mean) · factor with constant mean and factor: Scale and Standardize."""

    def __init__(self, factor: Any, mean: Any = None) -> None:
        super().__init__()
        if mean is not None:
            self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, x: Any) -> Any:
        return (x - getattr(self, "mean", 0.0)) * self.factor


class Back(Fixed):
    """y = x · factor + mean: Unstandardize."""

    def forward(self, x: Any) -> Any:
        return x * self.factor + self.mean


class Clip(torch.nn.Module):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Any) -> Any:
        return x / torch.sqrt(1 + (x / self.limit) ** 2)


class Residual(torch.nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Any) -> Any:
        return x + self.block(x)


class Columns(torch.nn.Module):
    """One column by its vector, the others as they are: EmbedColumns."""

    def __init__(self, column: int, table: Any) -> None:
        super().__init__()
        self.column, self.table = column, table

    def forward(self, x: Any) -> Any:
        at = self.column
        return torch.cat([x[:, :at], self.table(x[:, at].long()), x[:, at + 1 :]], dim=1)


def module(layer: Any, params: Any) -> Any:
    """The torch module of the same name, with these parameters."""
    match layer:
        case nn.Sequential():
            return torch.nn.Sequential(*map(module, layer.layers, params))
        case nn.Residual():
            return Residual(module(layer.block, params))
        case nn.Scale():
            return Fixed(params.factor.value)
        case nn.Standardize():
            return Fixed(params.scale.value, params.mean.value)
        case nn.Unstandardize():
            return Back(params.scale.value, params.mean.value)
        case nn.Embedding():
            made = torch.nn.Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx)
        case nn.SmoothClip():
            return Clip(layer.limit)
        case nn.EmbedColumns():
            return Columns(layer.columns[0], module(layer.embeddings[0], params[0]))
        case nn.Linear():
            made = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias)
        case nn.BatchNorm1d():
            made = torch.nn.BatchNorm1d(layer.features, layer.eps, layer.momentum, layer.affine)
        case nn.LayerNorm() | nn.RMSNorm():
            made = getattr(torch.nn, type(layer).__name__)(layer.features, layer.eps)
        case nn.Softmax() | nn.LogSoftmax():
            return getattr(torch.nn, type(layer).__name__)(-1)
        case nn.Softplus():
            return torch.nn.Softplus(layer.beta, threshold=1e9)
        case _:  # the same name, and the same options
            made = getattr(torch.nn, type(layer).__name__)(**dataclasses.asdict(layer))
    made.double()
    for name, value in params._asdict().items() if params else ():
        if value is not None:
            value = torch.tensor(getattr(value, "value", value))
            getattr(made, name).data.copy_(value.T if value.ndim == 2 and isinstance(layer, nn.Linear) else value)
    return made


def leaves(made: Any) -> list[np.ndarray]:
    """The parameters and buffers in our order and layout."""
    found = []
    for part in made.modules():
        named = {**dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False))}
        for name, value in named.items():
            if name != "num_batches_tracked":
                host = value.detach().numpy()
                found.append(host.T if isinstance(part, torch.nn.Linear) else host)
    return found


class Turned:
    """Apply an optimizer for (in, out) matrices to torch's Linear weights, which are (out, in)."""

    def __init__(self, made: Any, build: Callable[[list[Any]], Any]) -> None:
        turned = {id(part.weight) for part in made.modules() if isinstance(part, torch.nn.Linear)}
        self.params = [(p, id(p) in turned) for p in made.parameters()]
        self.views = [p.detach().T if turn else p.detach() for p, turn in self.params]  # a view: changing it changes p
        self.optimizer = build(self.views)

    def step(self) -> None:
        for (p, turn), view in zip(self.params, self.views, strict=True):
            view.grad = p.grad.T if turn else p.grad
        self.optimizer.step()


def optimizer(ours: Any, made: Any) -> Any:
    """The torch optimizer of the same name and options; its learning rate is set before each step."""
    params = list(made.parameters())
    match ours:
        case optim.ClipGradNorm():
            return torch_optimizers.Clipped(
                optimizer(ours.optimizer, made), params, torch.nn.utils.clip_grad_norm_, ours.max_norm
            )
        case optim.ClipGradValue():
            clip = torch.nn.utils.clip_grad_value_
            return torch_optimizers.Clipped(optimizer(ours.optimizer, made), params, clip, ours.clip_value)
        case optim.Lion():
            return torch_optimizers.Lion(torch, params, 0.0, *ours.betas, ours.weight_decay)
        case optim.Muon():
            return Turned(made, lambda views: torch_optimizers.Muon(
                torch, views, 0.0, 0.0, decay=ours.weight_decay, momentum=ours.momentum, nesterov=ours.nesterov,
                match=ours.adjust_lr_fn != "original", betas=ours.adamw_betas, eps=ours.adamw_eps,
                weight_decay=ours.adamw_weight_decay,
            ))  # fmt: skip
    options = {field.name: getattr(ours, field.name) for field in dataclasses.fields(ours)} | {"lr": 0.0}
    for form in ("eps_hat", "lr_in_velocity"):  # forms that torch does not have
        assert not options.pop(form, False)
    theirs = getattr(torch.optim, type(ours).__name__)(params, **options)
    return torch_optimizers.InFloat64(torch, theirs) if isinstance(ours, optim.NAdam) else theirs


def set_rate(theirs: Any, ours: Any, lr: float) -> None:
    match theirs:
        case torch_optimizers.Lion():
            theirs.settings = (lr, *theirs.settings[1:])
        case torch_optimizers.Muon():
            theirs.lr = lr
            set_rate(theirs.adamw, ours, lr * ours.adamw_lr_ratio)
        case torch.optim.Optimizer():
            for group in theirs.param_groups:
                group["lr"] = lr
        case _:
            set_rate(theirs.optimizer, getattr(ours, "optimizer", ours), lr)


def criterion(plan: Plan) -> Callable[[Any, np.ndarray], Any]:
    """(prediction, rows) -> the loss of these rows, by torch's loss of the same name and options if there is one."""
    ours, labels = plan.loss, isinstance(plan.loss, (nn.CrossEntropyLoss, nn.NLLLoss))
    options = {field.name: getattr(ours, field.name) for field in dataclasses.fields(ours)}
    if labels:
        weight, ignore = options.pop("class_weight"), options.pop("ignore_index")
        options |= {"weight": None if weight is None else torch.tensor(weight, dtype=torch.float64)}
        options |= {} if ignore is None else {"ignore_index": ignore}
    target, weights = torch.tensor(plan.y), None if plan.weight is None else torch.tensor(plan.weight)
    if labels and target.ndim == 1:
        target = target.long()
    options["reduction"] = ours.reduction if weights is None else "none"

    def quantile(z: Any, t: Any) -> Any:
        each = torch.maximum(ours.q * (t - z), (ours.q - 1) * (t - z))
        return each if weights is not None else each.mean() if ours.reduction == "mean" else each.sum()

    theirs = quantile if isinstance(ours, nn.QuantileLoss) else getattr(torch.nn, type(ours).__name__)(**options)

    def loss(z: Any, rows: np.ndarray) -> Any:
        value = theirs(z, target[rows])
        if weights is None:
            return value
        total = (weights[rows] * (value if labels else value.sum(1))).sum()
        if ours.reduction == "sum":
            return total
        return total / shares(plan)[rows].sum() / (1 if labels else z.shape[1])

    return loss


def shares(plan: Plan) -> np.ndarray:
    """The weight of each row in the mean over batches: its sample weight times its class weight."""
    share = np.ones(len(plan.y)) if plan.weight is None else plan.weight
    if isinstance(plan.loss, (nn.CrossEntropyLoss, nn.NLLLoss)) and plan.y.ndim == 1:
        seen = plan.y != plan.loss.ignore_index
        v = np.ones(1 + plan.y.max()) if plan.loss.class_weight is None else np.asarray(plan.loss.class_weight)
        share = np.where(seen, share * v[np.where(seen, plan.y, 0)], 0.0)
    return share


def run(plan: Plan, epochs: int) -> Result:
    """Train the twin on the rows in order, then evaluate it in inference mode."""
    made, share = module(plan.model, plan.params), shares(plan)
    x = torch.tensor(plan.x if isinstance(plan.model.layers[0], nn.Embedding) else plan.x.astype(np.float64))
    theirs, loss, count = optimizer(plan.optimizer, made), criterion(plan), len(plan.y)
    batches = [np.arange(at, min(at + plan.batch_size, count)) for at in range(0, count, plan.batch_size)]
    is_sum, losses, step = plan.loss.reduction == "sum", [], 0
    for _ in range(epochs):
        total = 0.0
        for rows in batches:
            made.zero_grad()
            value = loss(made(x[rows]), rows)
            value.backward()
            set_rate(theirs, plan.optimizer, plan.lr_scale * plan.rate(step, len(batches)))
            theirs.step()
            total += float(value.detach()) * (1.0 if is_sum else share[rows].sum())
            step += 1
        losses.append(total / share.sum())
    made.eval()
    with torch.no_grad():
        prediction = made(x)
        value = float(loss(prediction, np.arange(count)))
    return Result(losses, leaves(made), prediction.numpy(), value / share.sum() if is_sum else value)
