"""Tests that a training which is stopped anywhere and restored ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import Checkpoint, EarlyStopping, InputError, LearningRateLogger, ReduceLROnPlateau, Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.errors import DataFormatError, SaveError
from xpnn.training import newest_checkpoint, read_checkpoint
from xpnn.training.callbacks import checkpoint as checkpoint_module

EPOCHS, BATCH = 6, 8  # 5 steps in an epoch


def same(one: Any, other: Any) -> bool:
    pairs = zip(tree.leaves(one), tree.leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def records(trainer: Trainer) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in trainer.history]


class StopAt:
    """A callback that interrupts the training after so many steps, as a signal does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, trainer: Any, logs: Any) -> None: ...

    def on_train_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == self.steps:
            trainer.stop(resumable=True)


def plain() -> Trainer:
    return Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(1e-2), seed=3)


def with_everything() -> Trainer:
    model = nn.Sequential(nn.Standardize.fit(X), *nn.MLP(6, 3, (16, 8), dropout=0.3, norm="batch").layers)
    schedule = optim.LinearWarmup(optim.CosineAnnealingLR(0.02, EPOCHS), 2)
    optimizer = optim.ClipGradNorm(optim.AdamW(schedule, amsgrad=True), 0.5)
    return Trainer(
        model, nn.CrossEntropyLoss(label_smoothing=0.1), optimizer, seed=5, ema=0.9, penalty=nn.L2(1e-3)
    )  # fmt: skip


def callbacks() -> list[Any]:
    return [
        EarlyStopping("val_loss", patience=4),
        ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.2),
        LearningRateLogger(),
    ]


def fit(trainer: Trainer, backend: Backend, more: Any = (), epochs: int = EPOCHS, **options: Any) -> Trainer:
    x, y = backend.array(X), backend.array(Y)
    arguments: dict[str, Any] = {"batch_size": BATCH, "validation_data": (x[:10, ...], y[:10]), **options}
    trainer.fit(x, y, epochs=epochs, callbacks=[*callbacks(), *more], **arguments)
    return trainer


@pytest.mark.parametrize("make", [plain, with_everything], ids=["plain", "everything"])
@pytest.mark.parametrize("steps", [0, 1, 7, 10, 28])
def test_restored_training_has_the_same_bits(
    make: Callable[[], Trainer], steps: int, backend: Backend, tmp_path: Path
) -> None:
    whole = fit(make(), backend)
    stopped = make()
    if steps:
        fit(stopped, backend, [StopAt(steps)])
    stopped.save(tmp_path / "c.safetensors")
    restored = Trainer.restore(tmp_path / "c.safetensors")
    assert restored.steps == stopped.steps
    assert steps == 0 or backend.place.library in ("jax", "torch") or stopped.steps == steps
    fit(restored, backend, epochs=EPOCHS - stopped.epoch)
    assert records(restored) == records(whole)
    assert same(restored.snapshot(), whole.snapshot())
    assert same(restored.state_dict()["state"], whole.state_dict()["state"])
    assert (restored.epoch, restored.steps, restored.lr_scale) == (whole.epoch, whole.steps, whole.lr_scale)


def test_accumulated_and_weighted_training_resumes(backend: Backend, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accumulate": 2, "sample_weight": backend.array(np.linspace(0.5, 2, 40))}
    whole = fit(plain(), backend, **options)
    stopped = fit(plain(), backend, [StopAt(12)], **options)
    stopped.save(tmp_path / "c.safetensors")
    restored = fit(Trainer.restore(tmp_path / "c.safetensors"), backend, epochs=EPOCHS - stopped.epoch, **options)
    assert records(restored) == records(whole) and same(restored.snapshot(), whole.snapshot())


def test_three_and_three_epochs_are_six(backend: Backend, tmp_path: Path) -> None:
    whole = fit(plain(), backend)
    fit(plain(), backend, epochs=3).save(tmp_path / "c.safetensors")
    restored = fit(Trainer.restore(tmp_path / "c.safetensors"), backend, epochs=3)
    assert records(restored) == records(whole) and same(restored.snapshot(), whole.snapshot())


def test_training_that_a_callback_has_ended_stays_ended(backend: Backend, tmp_path: Path) -> None:
    def early(folder: str) -> list[Any]:
        return [EarlyStopping("loss", patience=0, min_delta=0.3), Checkpoint(tmp_path / folder)]

    x, y = backend.array(X), backend.array(Y)
    whole = plain()
    whole.fit(x, y, epochs=EPOCHS, batch_size=BATCH, callbacks=early("a"))
    assert whole.epoch < EPOCHS
    saved = newest_checkpoint(tmp_path / "a")
    assert saved is not None
    restored = Trainer.restore(saved)
    restored.fit(x, y, epochs=EPOCHS - restored.epoch, batch_size=BATCH, callbacks=early("a"))
    assert records(restored) == records(whole)
    assert same(restored.snapshot(), whole.snapshot())  # the best weights are restored


def test_other_library_continues_with_the_same_batches(backend: Backend, tmp_path: Path) -> None:
    whole = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(1e-2), seed=3, dtype="float64")
    whole.fit(X, Y, epochs=4, batch_size=BATCH)
    first = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(1e-2), seed=3, dtype="float64")
    first.fit(X, Y, epochs=4, batch_size=BATCH, callbacks=[StopAt(12)])
    first.save(tmp_path / "c.safetensors")
    restored = Trainer.restore(tmp_path / "c.safetensors", device=backend.place)
    other = backend.library != "numpy"
    with pytest.warns(UserWarning, match=f"library numpy → {backend.library}") if other else contextlib.nullcontext():
        restored.fit(X, Y, epochs=2, batch_size=BATCH)
    for one, other in zip(records(restored), records(whole), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-10)


# -- the files ---------------------------------------------------------------------------------------------------------


def saved_names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_checkpoints_are_pruned(tmp_path: Path) -> None:
    callback = Checkpoint(tmp_path, keep=2, monitor="score", mode="max")

    def score(trainer: Trainer, logs: Any) -> None:
        logs["score"] = -abs(trainer.epoch - 2)

    trainer = plain()
    trainer.fit(X, Y, epochs=5, batch_size=BATCH, callbacks=[score, callback])
    kept = [f"epoch-{epoch:05}-step-{5 * epoch:09}.safetensors" for epoch in (2, 4, 5)]
    assert saved_names(tmp_path) == kept
    assert callback.latest == tmp_path / kept[-1]
    assert read_checkpoint(tmp_path / kept[0]).training["epoch"] == 2


def test_checkpoints_within_epochs(tmp_path: Path) -> None:
    trainer = plain()
    trainer.fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[Checkpoint(tmp_path, every_steps=2, keep=99)])
    steps = [int(name.split("-")[3].split(".")[0]) for name in saved_names(tmp_path)]
    assert steps == [0, 2, 4, 5, 7, 9, 10]


def test_every_epochs(tmp_path: Path) -> None:
    plain().fit(
        X,
        Y,
        epochs=4,
        batch_size=BATCH,
        callbacks=[Checkpoint(tmp_path, every_epochs=3, keep=99, monitor="lr", mode="min")],
    )
    assert [int(name[6:11]) for name in saved_names(tmp_path)] == [
        0,
        1,
        3,
        4,
    ]  # 1: the best, the first of equals; 4: the last


def test_sparing_checkpoints_leave_out_short_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch k ends at second k, and each file takes 0.35 s: one fits into 3.5 s."""
    now = [0.0]
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now[0])
    write = checkpoint_module.write_checkpoint
    callback = Checkpoint(tmp_path, keep=99, sparing=True)

    def tick(trainer: Trainer, logs: Any) -> None:
        if callback._writing is not None:
            callback._writing.result()
        now[0] = float(trainer.epoch)

    def slow(path: Path, *content: Any) -> None:
        write(path, *content)
        now[0] += 0.35

    monkeypatch.setattr(checkpoint_module, "write_checkpoint", slow)
    trainer = plain()
    trainer.fit(X, Y, epochs=9, batch_size=BATCH, callbacks=[tick, callback])
    assert [int(name[6:11]) for name in saved_names(tmp_path)] == [0, 4, 8, 9]


def test_best_is_remembered_after_a_restart(tmp_path: Path) -> None:
    values = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}

    def score(trainer: Trainer, logs: Any) -> None:
        logs["val_loss"] = values[trainer.epoch]

    plain().fit(X, Y, epochs=3, batch_size=BATCH, callbacks=[score, Checkpoint(tmp_path, keep=1)])
    saved = newest_checkpoint(tmp_path)
    assert saved is not None
    Trainer.restore(saved).fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[score, Checkpoint(tmp_path, keep=1)])
    assert [int(name[6:11]) for name in saved_names(tmp_path)] == [2, 5]


def test_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    plain().fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(InputError, match="contains a checkpoint of a later step"):
        plain().fit(X, Y, epochs=1, batch_size=BATCH, callbacks=[Checkpoint(tmp_path)])


def test_damaged_file_is_set_aside(tmp_path: Path) -> None:
    plain().fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[Checkpoint(tmp_path)])
    newest = tmp_path / saved_names(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 4
    newest.write_bytes(content)
    with pytest.raises(DataFormatError, match=r"is damaged: the digest of \S+ does not match"):
        read_checkpoint(newest)
    with pytest.warns(UserWarning, match="corrupt, and the one before it is used"):
        saved = newest_checkpoint(tmp_path)
    assert saved is not None and saved.training["epoch"] == 1
    assert f"{newest.name}.corrupt" in saved_names(tmp_path)
    (tmp_path / saved_names(tmp_path)[0]).write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="corrupt; no other is left"):
        assert newest_checkpoint(tmp_path) is None


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the files of some epochs fail."""
    write = checkpoint_module.write_checkpoint

    def fails(*epochs: int) -> None:
        def tried(path: Path, *content: Any) -> None:
            if any(f"epoch-{epoch:05}" in path.name for epoch in epochs):
                raise SaveError(f"no space for {path.name}")
            write(path, *content)

        monkeypatch.setattr(checkpoint_module, "write_checkpoint", tried)

    return fails


def test_failed_write_warns_once_and_training_goes_on(tmp_path: Path, failing: Callable[..., None]) -> None:
    failing(2, 3)
    callback, trainer = Checkpoint(tmp_path, monitor="score", mode="max"), plain()
    scores = iter((3, 9, 5, 4, 1, 2))

    def score(_: Trainer, logs: dict[str, Any]) -> None:
        logs["score"] = next(scores)

    with pytest.warns(
        UserWarning, match=r"no space for epoch-00002.*training goes on.*newest .* is epoch-00001"
    ) as all:
        trainer.fit(X, Y, epochs=6, batch_size=BATCH, callbacks=[score, callback])
    assert len(all) == 1
    # Those of the failures are not there; the best is that of the epochs that are saved, and the others are removed.
    assert [name.split("-")[1] for name in saved_names(tmp_path)] == ["00004", "00005", "00006"]
    assert callback.state_dict()["best"] == ("score", 4.0) and callback.latest == tmp_path / saved_names(tmp_path)[-1]


def test_last_file_is_tried_again_and_must_succeed(tmp_path: Path, failing: Callable[..., None]) -> None:
    failing(2)
    with pytest.raises(SaveError, match="no space for epoch-00002"):
        plain().fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[Checkpoint(tmp_path)])
    saved = newest_checkpoint(tmp_path)
    assert saved is not None and saved.training["epoch"] == 1


def test_too_little_space_is_told_before_the_training(tmp_path: Path, monkeypatch: Any) -> None:
    from xpnn.training.saving import atomic_write

    monkeypatch.setattr(atomic_write.shutil, "disk_usage", lambda folder: type("", (), {"free": 1000}))
    trainer = plain()
    with pytest.raises(SaveError, match=r"too little free space for this run: .* MB needed, 0\.0 MB free"):
        trainer.fit(X, Y, epochs=1, batch_size=BATCH, callbacks=[Checkpoint(tmp_path)])
    assert trainer.steps == 0


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_other_data_within_an_epoch_are_refused(tmp_path: Path) -> None:
    stopped = plain()
    stopped.fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[StopAt(3)])
    stopped.save(tmp_path / "c.safetensors")
    restored = Trainer.restore(tmp_path / "c.safetensors")
    with pytest.raises(
        InputError, match="within an epoch of 40 rows in batches of 8, but fit has 40 rows in batches of 9"
    ):
        restored.fit(X, Y, batch_size=9)
    with pytest.raises(InputError, match="but fit has 39 rows"):
        restored.fit(X[1:], Y[1:], batch_size=BATCH)
    restored.fit(X, Y, batch_size=BATCH)
    assert restored.epoch == 1 and restored.steps == 5


def test_other_parts_are_refused(tmp_path: Path) -> None:
    plain().save(tmp_path / "a.safetensors")
    trained = plain()
    trained.fit(X, Y, epochs=1)
    trained.save(tmp_path / "b.safetensors")
    with pytest.raises(InputError, match=r"belongs to a trainer with other arguments: it has params.0.mean \(6,\)"):
        Trainer.restore(tmp_path / "a.safetensors", model=nn.MLP(6, 3, (16, 8)))
    with pytest.raises(InputError, match=r"it has optimizer\.m\.1\.weight .* expected"):
        Trainer.restore(tmp_path / "b.safetensors", optimizer=optim.Muon())
    with pytest.raises(InputError, match="callbacks: none with a state; the saved run had EarlyStopping"):
        fit_with = plain()
        fit_with.fit(X, Y, callbacks=[EarlyStopping("loss")])
        fit_with.save(tmp_path / "c.safetensors")
        Trainer.restore(tmp_path / "c.safetensors").fit(X, Y)


class OwnMSE(nn.MSELoss):
    pass


def test_own_parts_are_given_again(tmp_path: Path) -> None:
    model = nn.Linear(6, 3)
    trainer = Trainer(model, OwnMSE(), optim.SGD(0.1))
    trainer.fit(X, np.eye(3)[Y], batch_size=BATCH)
    trainer.save(tmp_path / "c.safetensors")
    with pytest.raises(InputError, match=r"its loss is not made of xpnn's own classes.*give loss="):
        Trainer.restore(tmp_path / "c.safetensors")
    restored = Trainer.restore(tmp_path / "c.safetensors", loss=OwnMSE())
    assert same(restored.snapshot(), trainer.snapshot())


def test_callback_state_that_cannot_be_saved(tmp_path: Path) -> None:
    class Odd:
        def __call__(self, trainer: Any, logs: Any) -> None: ...

        def state_dict(self) -> Any:
            return {"seen": {1, 2}}

        def load_state_dict(self, state: Any) -> None: ...

    trainer = plain()
    trainer.fit(X, Y, callbacks=[Odd()])
    with pytest.raises(InputError, match=r"training\.callbacks\.1\.1\.seen is a set, which cannot be saved"):
        trainer.save(tmp_path / "c.safetensors")


def test_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    from xpnn import load_model, save_model

    trainer = plain()
    trainer.save(tmp_path / "c.safetensors")
    with pytest.raises(DataFormatError, match="is a checkpoint of a training, not a model"):
        load_model(tmp_path / "c.safetensors")
    save_model(tmp_path / "m.safetensors", trainer.model, trainer.snapshot())
    with pytest.raises(DataFormatError, match="is a model, not a checkpoint of a training"):
        Trainer.restore(tmp_path / "m.safetensors")


def test_about_and_environment_are_saved(tmp_path: Path) -> None:
    trainer = plain()
    trainer.fit(X, Y)
    trainer.save(tmp_path / "c.safetensors", {"note": "é"})
    saved = read_checkpoint(tmp_path / "c.safetensors")
    assert saved.about == {"note": "é"}
    assert saved.environment["library"] == "numpy" and saved.environment["versions"]["numpy"] == np.__version__
    assert json.dumps(saved.config)


def test_names_in_a_checkpoint_are_no_paths(tmp_path: Path) -> None:
    """A forged checkpoint lists files of other folders as its own old files: they are not removed."""
    (tmp_path / "precious.safetensors").write_bytes(b"x")
    folder = tmp_path / "checkpoints"
    trainer = plain()
    trainer.fit(X, Y, epochs=2, batch_size=BATCH, callbacks=[Checkpoint(folder)])
    state = trainer.checkpoint()
    forged = {
        "best": None,
        "best_file": None,
        "files": ("../precious.safetensors", str(tmp_path / "precious.safetensors")),
    }
    state["state_dict"]["callbacks"][-1] = ("Checkpoint", forged)
    checkpoint_module.write_checkpoint(tmp_path / "forged.safetensors", state, {})
    for file in folder.iterdir():
        file.unlink()
    restored = Trainer.restore(tmp_path / "forged.safetensors")
    restored.fit(X, Y, epochs=3, batch_size=BATCH, callbacks=[Checkpoint(folder, keep=1)])
    assert (tmp_path / "precious.safetensors").exists()
    assert len(list(folder.iterdir())) in (1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_checkpoints_in_a_forked_process(tmp_path: Path) -> None:
    """The thread that writes does not exist there."""
    code = """
import os, sys
import numpy as np
from xpnn import Checkpoint, Trainer, nn, optim
x, y = np.eye(4, dtype=np.float32), np.arange(4)
def train(folder):
    trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    trainer.fit(x, y, epochs=2, batch_size=2, callbacks=[Checkpoint(folder)])
train(sys.argv[1] + "/parent")
child = os.fork()
if child == 0:
    train(sys.argv[1] + "/child")
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True, timeout=60)
    assert saved_names(tmp_path / "child") == saved_names(tmp_path / "parent")


def test_snapshot_has_the_averages_without_an_engine(tmp_path: Path) -> None:
    """After a pickle, a copy or a checkpoint, before the first data."""
    trainer = with_everything()
    trainer.fit(X, Y, epochs=2, batch_size=BATCH)
    trainer.save(tmp_path / "one.safetensors")
    loaded = with_everything()
    loaded.load_state_dict(trainer.state_dict())
    averages = tree.leaves(trainer.snapshot())
    assert not all(np.array_equal(a, b) for a, b in zip(averages, tree.leaves(trainer.state.params), strict=True))
    for other in (
        pickle.loads(pickle.dumps(trainer)),
        copy.deepcopy(trainer),
        Trainer.restore(tmp_path / "one.safetensors"),
        loaded,
    ):
        assert all(np.array_equal(a, b) for a, b in zip(averages, tree.leaves(other.snapshot()), strict=True))
