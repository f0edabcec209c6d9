"""A pool of threads in compiled code, which wait without the GIL, and sleep if they wait for long.

A task is a C function void f(words, part, parts): the address of what it works on, and which part of it to do. The
parts of a task run on as many threads. A thread looks for work for a moment (`_AWAKE`), and then sleeps. The caller
does the parts that no thread has begun, so that it does not wait for a thread that gets no core.

The state of a thread is one word, which changes atomically:

    IDLE → OFFERED     the caller has written a task; SLEEPING → OFFERED, and the caller wakes the thread
    OFFERED → TAKEN    the thread does it; OFFERED → IDLE, and the caller does it
    TAKEN → WAITED     the caller goes to sleep until it is done
    TAKEN → IDLE       done; WAITED → IDLE, and the thread wakes the caller
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
from typing import Any

import numpy as np

from xpnn.kernels.numpy.native.caching import compiled
from xpnn.kernels.numpy.native.memory import (
    call,
    call_clock,
    call_task,
    exchange,
    load,
    pause,
    replace,
    set_word,
    stack_words,
    word,
    write_addresses,
)

IDLE, SLEEPING, OFFERED, TAKEN, WAITED = range(5)
_AWAKE = 4e-4  # seconds for which a thread looks for work before it sleeps
_LATE = 50_000  # nanoseconds for which the caller may wait, beside half of the time of its own part
_ALONE_LEAST, _ALONE_MOST = 500_000, 256_000_000  # nanoseconds for which the caller works alone
_MOST = 64  # threads
_LINE = 16  # words of a thread, so that two are in different cache lines

# The words of the pool: first its own …
_IN_USE, _THREADS, _WAIT, _POST, _CLOCK, _TURNS, _ALONE_UNTIL, _ALONE, _TIME = range(9)
# … then for each thread its state, its task, and its semaphores: what it sleeps on, and what its caller sleeps on
_TASK, _WORDS, _PART, _PARTS, _WAKE, _DONE = range(1, 7)
_WORD = 8  # bytes


@compiled
def serve(state: Any, wait: Any, post: Any, turns: Any) -> None:
    """What a thread does, until it is given the task 0."""
    while True:
        seen = 0
        while not replace(state, OFFERED, TAKEN):
            while load(state) != OFFERED and seen < turns:
                seen += 1
                pause()
            if seen >= turns and (replace(state, IDLE, SLEEPING) or load(state) == SLEEPING):
                call(wait, word(state, _WAKE))  # also returns for a signal
                seen = 0
        task = word(state, _TASK)
        if task == 0:
            return
        call_task(task, word(state, _WORDS), word(state, _PART), word(state, _PARTS))
        if exchange(state, IDLE) == WAITED:
            call(post, word(state, _DONE))


@compiled
def divide(pool: Any, task: Any, parts: Any, numbers: Any, arrays: Any) -> None:
    """Do all parts of a task, whose words are the numbers and the addresses of the arrays."""
    words = stack_words()
    for i in range(numbers.size):
        set_word(words, i, numbers[i])
    write_addresses(words + numbers.size * _WORD, arrays)
    if parts == 1:
        call_task(task, words, 0, 1)
    else:
        _divide(pool, task, parts, words)


@compiled
def _divide(pool: Any, task: Any, parts: Any, words: Any) -> None:
    """Offer parts to the threads, do the others, and return when all are done."""
    base = pool.ctypes.data
    if not pool[_THREADS] or not replace(base, 0, 1):  # no threads, or another caller has them
        for i in range(parts):
            call_task(task, words, i, parts)
        return
    start = _now(pool)
    offered = min(parts, 1 + pool[_THREADS]) if start >= pool[_ALONE_UNTIL] else 1
    woken, stolen = False, False
    for i in range(1, offered):
        slot = i * _LINE
        pool[slot + _TASK], pool[slot + _WORDS], pool[slot + _PART], pool[slot + _PARTS] = task, words, i, parts
        woken = offer(base + slot * _WORD, pool[_POST]) or woken
    call_task(task, words, 0, parts)
    for i in range(offered, parts):
        call_task(task, words, i, parts)
    if offered > 1:
        done = _now(pool)
        for i in range(1, offered):
            if replace(base + i * _LINE * _WORD, OFFERED, IDLE):
                call_task(task, words, i, parts)
                stolen = True
            else:
                _wait(pool, base + i * _LINE * _WORD, pool[i * _LINE + _DONE])
        late = _now(pool) - done > (done - start) // 2 + _LATE
        _learn(pool, not woken if stolen else late)
    exchange(base, 0)


@compiled
def _wait(pool: Any, state: Any, semaphore: Any) -> None:
    """Return when a thread has done its part."""
    seen = 0
    while load(state) == TAKEN and seen < pool[_TURNS]:
        seen += 1
        pause()
    replace(state, TAKEN, WAITED)
    while load(state) == WAITED:
        call(pool[_WAIT], semaphore)  # also returns for a signal


@compiled
def _learn(pool: Any, without_core: bool) -> None:
    """If a thread had no core, let the caller work alone for a while, and for longer the next time."""
    if without_core:
        pool[_ALONE_UNTIL] = _now(pool) + pool[_ALONE]
        pool[_ALONE] = min(2 * pool[_ALONE], _ALONE_MOST)
    else:
        pool[_ALONE] = max(pool[_ALONE] - pool[_ALONE] // 8, _ALONE_LEAST)


@compiled
def _now(pool: Any) -> int:
    """Nanoseconds on a clock that only goes forward."""
    at = pool.ctypes.data + _TIME * _WORD
    call_clock(pool[_CLOCK], at)
    return word(at, 0) * 1_000_000_000 + word(at, 1)


@compiled
def offer(state: Any, post: Any) -> bool:
    """Offer the task that is written there; return whether the thread had to be woken."""
    if exchange(state, OFFERED) == SLEEPING:
        call(post, word(state, _WAKE))
        return True
    return False


@compiled
def look(state: Any, turns: Any) -> None:
    """As long as a thread that finds no work."""
    seen = 0
    while load(state) != OFFERED and seen < turns:
        seen += 1
        pause()


class Pool:
    """The threads of this process that do parts of tasks, beside the thread that calls `divide`."""

    def __init__(self) -> None:
        #: The words: the first argument of `divide`.
        self.words = np.zeros((_MOST + 1) * _LINE, np.int64)
        #: How many threads there are, with the caller's.
        self.size = 1
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._semaphores = [ctypes.create_string_buffer(64) for _ in range(2 * _MOST)]
        self._sleeps = self._prepare()
        os.register_at_fork(after_in_child=self._forget)

    def grow(self, size: int) -> None:
        """Start threads until there are so many, with the caller's."""
        with self._lock:
            for i in range(self.size, min(size, _MOST + 1) if self._sleeps else 1):
                what = (self._state(i), *self.words[[_WAIT, _POST, _TURNS]].tolist())
                thread = threading.Thread(target=serve, args=what, name=f"xpnn {i}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self.words[_THREADS] = len(self._threads)
            self.size = max(size, self.size)

    def _prepare(self) -> bool:
        """Whether there is what threads need to sleep: semaphores in memory, as on Linux."""
        if not sys.platform.startswith("linux"):
            return False
        library = ctypes.CDLL(None)
        functions = (library.sem_wait, library.sem_post, library.clock_gettime)
        wait, post, clock = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
        self.words[_WAIT], self.words[_POST], self.words[_CLOCK] = wait, post, clock
        self.words[_ALONE] = _ALONE_LEAST
        for i, semaphore in enumerate(self._semaphores):
            if library.sem_init(semaphore, 0, 0):
                return False
            self.words[(i // 2 + 1) * _LINE + (_WAKE, _DONE)[i % 2]] = ctypes.addressof(semaphore)
        self.words[_TURNS] = self._turns_of(_AWAKE)
        atexit.register(self._stop)
        return True

    def _state(self, i: int) -> int:
        return int(self.words.ctypes.data) + i * _LINE * _WORD

    def _turns_of(self, seconds: float) -> int:
        """How often a thread looks for work in this time."""
        turns = 20_000
        look(self._state(1), 1)  # compiles
        start = time.perf_counter()
        look(self._state(1), turns)
        return round(turns * seconds / max(time.perf_counter() - start, 1e-7))

    def _stop(self) -> None:
        """End the threads, before the memory of their code is freed."""
        self.words[_THREADS] = 0
        for i, thread in enumerate(self._threads, 1):
            self.words[i * _LINE + _TASK] = 0
            offer(self._state(i), int(self.words[_POST]))
            thread.join(1.0)

    def _forget(self) -> None:
        """In a forked process, there are none of the parent's threads."""
        self.size, self._threads, self._lock = 1, [], threading.Lock()
        self.words[_THREADS] = self.words[_IN_USE] = 0
        self.words[_LINE::_LINE] = IDLE
