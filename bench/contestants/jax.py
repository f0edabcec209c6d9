"""A training loop in JAX and optax: one jitted step that gathers its batch on the device, with donated state."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.networks import Row, Weights

PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}  # bf16: the factors are cast, too


class Contestant:
    """The state is (parameters and running statistics, state of optax, steps taken, Σ loss, correct predictions).

    resident: the order of the rows is drawn and kept on the device as well
    scan:     an epoch is one call, with its steps in a jax.lax.scan
    """

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, resident: bool = False, scan: bool = False,
        device: str = "cpu", precision: str = "fp32",
    ) -> None:  # fmt: skip
        jax.config.update("jax_default_device", jax.devices(device)[0])
        optimizer = optax.adam(row.lr) if row.optimizer == "adam" else optax.sgd(row.lr)
        if row.max_norm:
            optimizer = optax.chain(optax.clip_by_global_norm(row.max_norm), optimizer)
        key = jax.random.key(0)
        factors = jnp.bfloat16 if precision == "bf16" else jnp.float32

        def loss_of(params: Any, running: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
            x, statistics = x.astype(factors), []
            for i, (weight, bias, *norm) in enumerate(params):
                x = x @ weight.astype(factors)
                x = x if bias is None else x + bias.astype(factors)
                if i == len(row.dropout):
                    break
                if norm:
                    axis = 0 if row.norm == "batch" else 1
                    mean, variance = jnp.mean(x, axis, keepdims=True), jnp.var(x, axis, keepdims=True)
                    x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * norm[0] + norm[1]
                    statistics.append((mean, variance * (len(x) / (len(x) - 1))))
                x = jax.nn.relu(x) if row.activation == "relu" else jax.nn.gelu(x, approximate=False)
                if p := row.dropout[i]:
                    keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - p, x.shape)
                    x = jnp.where(keep, x / (1 - p), 0)
            logits = x.astype(jnp.float32)
            if row.norm == "batch":
                running = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, running, statistics)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), (logits, running)

        def step(state: Any, x: jax.Array, y: jax.Array, rows: jax.Array) -> Any:
            (params, running), moments, count, total, right = state
            x, y = x[rows], y[rows]
            value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
            with jax.default_matmul_precision(PRECISIONS[precision]):
                found, grads = value_and_grad(params, running, x, y, jax.random.fold_in(key, count))
            loss, (logits, running) = found
            updates, moments = optimizer.update(grads, moments, params)
            right += jnp.sum(jnp.argmax(logits, axis=1) == y)
            params = optax.apply_updates(params, updates), running
            return params, moments, count + 1, total + loss * len(rows), right

        def next_step(state: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> Any:
            return step(state, x, y, order[state[2] % row.steps])

        def steps(state: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> Any:
            return jax.lax.scan(lambda state, rows: (step(state, x, y, rows), None), state, order)[0]

        params, running = [[jnp.array(part) for part in pair] for pair in weights], []
        for layer in params[:-1] if row.norm else []:
            width = layer[1].size
            layer += [jnp.ones(width), jnp.zeros(width)]
            if row.norm == "batch":
                layer[1] = None
                running.append((jnp.zeros((1, width)), jnp.ones((1, width))))
        self.step = jax.jit(steps if scan else next_step if resident else step, donate_argnums=0)
        self.state = ((params, running), optimizer.init(params), jnp.int32(0), jnp.float32(0), jnp.int32(0))
        self.x, self.y, self.shape = jnp.asarray(x), jnp.asarray(y.astype(np.int32)), (row.steps, row.batch)
        self.scan, self.resident = scan, resident
        self.generator, self.epochs = np.random.default_rng(0), 0
        self.shuffle = jax.jit(lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), len(y)))
        self.ways = {"": self.run, "bare": self.bare} if resident else {"": self.run}

    def order(self) -> Any:
        """Return the rows of the next epoch, (steps, batch)."""
        self.epochs += 1
        if self.resident:
            return self.shuffle(np.int32(self.epochs)).reshape(self.shape)
        return self.generator.permutation(len(self.y)).astype(np.int32).reshape(self.shape)

    def epoch(self, order: Any) -> None:
        self.state = (*self.state[:3], jnp.float32(0), jnp.int32(0))
        for part in [order] if self.scan else [order] * len(order) if self.resident else order:
            self.state = self.step(self.state, self.x, self.y, part)

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            self.epoch(self.order())
            jax.device_get(self.state[3:])
        return time.perf_counter() - start

    def bare(self, epochs: int) -> float:
        order = jax.block_until_ready(self.order())
        start = time.perf_counter()
        for _ in range(epochs):
            self.epoch(order)
        jax.device_get(self.state[3:])
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        found = []
        order = np.arange(len(self.y), dtype=np.int32).reshape(self.shape)
        for i in range(len(batches)):
            rows = order[i % len(order)]
            self.state = (*self.state[:3], jnp.float32(0), jnp.int32(0))
            part = rows[None] if self.scan else order if self.resident else rows
            self.state = self.step(self.state, self.x, self.y, part)
            found.append(float(self.state[3]) / len(rows))
        return found
