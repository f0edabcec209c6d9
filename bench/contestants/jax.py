"""JAX and optax, written by hand: one jitted step that gathers its batch on the device; its state is donated."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.networks import Row, Weights


class Contestant:
    """The state is (parameters, optax's state, steps taken, Σ loss, right answers)."""

    def __init__(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights) -> None:
        optimizer = optax.adam(row.lr) if row.optimizer == "adam" else optax.sgd(row.lr)
        key = jax.random.key(0)

        def loss_of(params: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            for i, (weight, bias) in enumerate(params):
                x = x @ weight + bias
                if i == len(row.dropout):
                    break
                x = jax.nn.relu(x)
                if p := row.dropout[i]:
                    keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - p, x.shape)
                    x = jnp.where(keep, x / (1 - p), 0)
            return optax.softmax_cross_entropy_with_integer_labels(x, y).mean(), x

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state: Any, all_x: jax.Array, all_y: jax.Array, rows: jax.Array) -> Any:
            params, moments, count, total, right = state
            x, y = all_x[rows], all_y[rows]
            value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
            (loss, logits), grads = value_and_grad(params, x, y, jax.random.fold_in(key, count))
            updates, moments = optimizer.update(grads, moments, params)
            right += jnp.sum(jnp.argmax(logits, axis=1) == y)
            return optax.apply_updates(params, updates), moments, count + 1, total + loss * len(rows), right

        params = [tuple(jnp.array(part) for part in pair) for pair in weights]
        self.step = step
        self.state = (params, optimizer.init(params), jnp.int32(0), jnp.float32(0), jnp.int32(0))
        self.x, self.y, self.shape = jnp.asarray(x), jnp.asarray(y.astype(np.int32)), (row.steps, row.batch)
        self.generator = np.random.default_rng(0)
        self.ways = {"": self.run}

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            self.state = (*self.state[:3], jnp.float32(0), jnp.int32(0))
            for rows in self.generator.permutation(len(self.y)).astype(np.int32).reshape(self.shape):
                self.state = self.step(self.state, self.x, self.y, rows)
            jax.block_until_ready(self.state)
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        found = []
        for x, y in batches:
            self.state = (*self.state[:3], jnp.float32(0), jnp.int32(0))
            self.state = self.step(self.state, jnp.asarray(x), jnp.asarray(y.astype(np.int32)), np.arange(len(y)))
            found.append(float(self.state[3]) / len(y))
        return found
