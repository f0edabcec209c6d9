"""Rows of the table: optimizers and learning rate schedules."""

from __future__ import annotations

from xpnn import optim

OPTIMIZERS: dict[str, optim.Optimizer] = {
    "SGD": optim.SGD(0.1, 0.9, 0.01, nesterov=True),
    "SGD: plain": optim.SGD(0.1),
    "SGD: momentum": optim.SGD(0.1, 0.9),
    "SGD: lr in velocity": optim.SGD(0.1, 0.9, 0.01, nesterov=True, lr_in_velocity=True),
    "SGD: lr in velocity, plain": optim.SGD(0.1, 1.0, lr_in_velocity=True),
    "RMSprop": optim.RMSprop(0.01, 0.9, 1e-4, 0.1, 0.8),
    "RMSprop: plain": optim.RMSprop(0.01),
    "Adagrad": optim.Adagrad(0.1, 0.2, 0.5, 1e-3),
    "Adagrad: plain": optim.Adagrad(0.1),
    "Adam": optim.Adam(0.1, amsgrad=True),
    "Adam: plain": optim.Adam(0.01),
    "Adam: weight decay": optim.Adam(0.01, (0.8, 0.95), 1e-6, 0.1),
    "Adam: epsilon hat": optim.Adam(0.01, (0.8, 0.95), 1e-2, 0.1, eps_hat=True),
    "Adam: epsilon hat, AMSGrad": optim.Adam(0.01, eps=1e-3, amsgrad=True, eps_hat=True),
    "AdamW": optim.AdamW(0.01, weight_decay=0.3),
    "AdamW: AMSGrad": optim.AdamW(0.01, (0.7, 0.9), amsgrad=True),
    "NAdam": optim.NAdam(0.01),
    "NAdam: weight decay": optim.NAdam(0.01, (0.8, 0.95), 1e-6, 0.1, 0.05),
    "NAdam: decoupled": optim.NAdam(0.01, weight_decay=0.3, decoupled_weight_decay=True),
    "Lion": optim.Lion(0.01),
    "Lion: weight decay": optim.Lion(0.02, (0.7, 0.8), 0.3),
    "Muon": optim.Muon(0.02),
    "Muon: every option": optim.Muon(
        0.02,
        0.3,
        0.8,
        False,
        adjust_lr_fn="match_rms_adamw",
        adamw_lr_ratio=0.5,
        adamw_betas=(0.8, 0.95),
        adamw_eps=1e-6,
        adamw_weight_decay=0.2,
    ),
    "ClipGradNorm": optim.ClipGradNorm(optim.SGD(0.1, 0.9), 2.0),  # some gradients are longer, some are not
    "ClipGradValue": optim.ClipGradValue(optim.SGD(0.1, 0.9), 0.7),
}

SCHEDULES: dict[str, optim.Schedule] = {
    "ConstantLR": optim.ConstantLR(2.0),
    "StepLR": optim.StepLR(2.0, 3, 0.5),
    "ExponentialLR": optim.ExponentialLR(2.0, 0.9),
    "InverseTimeLR": optim.InverseTimeLR(2.0, 0.5),
    "PolynomialLR": optim.PolynomialLR(2.0, 8, 2.0),
    "PolynomialLR: end_lr": optim.PolynomialLR(2.0, 8, end_lr=0.5),
    "CosineAnnealingLR": optim.CosineAnnealingLR(2.0, 12, 0.5),
    "LinearWarmup": optim.LinearWarmup(2.0, 4),
    "LinearWarmup: cosine": optim.LinearWarmup(optim.CosineAnnealingLR(2.0, 12, 0.5), 4, 0.1),
    "OneCycleLR": optim.OneCycleLR(2.0, 10),
    "OneCycleLR: every option": optim.OneCycleLR(2.0, 15, 0.5, 10, 100),
}
