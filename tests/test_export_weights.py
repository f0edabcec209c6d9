"""Tests for weights in the layouts of torch and Keras: the others predict the same, and round trips keep all bits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cases
import networks
import numpy as np
import pytest
from conftest import Backend, assert_close

import xpnn
from xpnn import export, nn
from xpnn.arrays import random, tree
from xpnn.cli import main
from xpnn.errors import InputError
from xpnn.experiments import SavedRun, Settings, run

NETWORK = nn.Sequential(
    nn.Linear(4, 5),
    nn.BatchNorm1d(5),
    nn.ReLU(),
    nn.Linear(5, 6, bias=False),
    nn.LayerNorm(6),
    nn.Tanh(),
    nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, affine=False), nn.Dropout(0.5)),
    nn.RMSNorm(3),
)
X = np.asarray(cases.draw("export", 7, 4))


def assert_same(one: Any, other: Any) -> None:
    assert tree.outline(one) == tree.outline(other)
    for ours, theirs in zip(tree.leaves(one), tree.leaves(other), strict=True):
        assert ours.dtype == theirs.dtype and (ours == theirs).all()


def torch_twin() -> Any:
    torch = pytest.importorskip("torch")
    t = torch.nn
    inside = t.Sequential(t.Linear(6, 3), t.BatchNorm1d(3, affine=False), t.Dropout(0.5))
    made = t.Sequential(
        t.Linear(4, 5),
        t.BatchNorm1d(5),
        t.ReLU(),
        t.Linear(5, 6, bias=False),
        t.LayerNorm(6),
        t.Tanh(),
        inside,
        t.RMSNorm(3, eps=1e-6),
    )
    return made.double().eval()


def test_torch_loads_what_is_exported_and_predicts_the_same() -> None:
    torch, made = pytest.importorskip("torch"), torch_twin()
    params = cases.params_of(NETWORK)
    tensors = export.to_torch(NETWORK, params)
    assert {name: str(array.dtype) for name, array in tensors.items()} == {
        name: str(tensor.dtype).removeprefix("torch.") for name, tensor in made.state_dict().items()
    }
    made.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()}, strict=True)
    assert_close(made(torch.tensor(X)).detach().numpy(), NETWORK.forward(params, X)[0])
    assert_same(export.from_torch(NETWORK, made.state_dict()), params)


def test_trained_torch_network_is_imported() -> None:
    """Its running statistics too; tensors of torch are taken as they are."""
    torch, made = pytest.importorskip("torch"), torch_twin().float().train()
    made(torch.tensor(X, dtype=torch.float32) + 3)
    state = {f"net.{name}": value for name, value in made.eval().state_dict().items()}
    params = export.from_torch(NETWORK, {**state, "other": torch.zeros(1)}, prefix="net.")
    assert {str(leaf.dtype) for leaf in tree.leaves(params)} == {"float32"}
    wanted = made(torch.tensor(X, dtype=torch.float32)).detach().numpy()
    assert_close(NETWORK.forward(params, X.astype(np.float32))[0], wanted, ulps=256)
    assert sorted(export.to_torch(NETWORK, params, prefix="net.")) == sorted(state)


def test_embedding_and_torch() -> None:
    torch = pytest.importorskip("torch")
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
    made = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Flatten(), torch.nn.Linear(6, 2)).double()
    params, x = export.from_torch(model, made.state_dict()), np.array([[0, 4], [2, 2]])
    assert_close(model.forward(params, x)[0], made(torch.tensor(x)).detach().numpy())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from Keras's own conversions
def test_keras_takes_what_is_exported_and_predicts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    if "KERAS_BACKEND" not in os.environ:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("torch")
    keras = pytest.importorskip("keras")
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, eps=1e-3), nn.ReLU(), nn.Linear(5, 6, bias=False), nn.LayerNorm(6),
        nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, affine=False)), nn.RMSNorm(3),
    )  # fmt: skip
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(6, use_bias=False),
            layers.LayerNormalization(epsilon=1e-5),
            keras.Sequential([layers.Dense(3), layers.BatchNormalization(epsilon=1e-5, center=False, scale=False)]),
            layers.RMSNormalization(epsilon=1e-6),
        ]
    )
    params = tree.map(lambda leaf: leaf.astype(np.float32), cases.params_of(model))
    made.set_weights(export.to_keras(model, params))
    wanted = np.asarray(made.predict(X.astype(np.float32), verbose=0))
    assert_close(model.forward(params, X.astype(np.float32))[0], wanted, ulps=512)
    assert_same(export.from_keras(model, made.get_weights()), params)


@pytest.mark.parametrize("number", range(40))
def test_round_trips_of_random_networks(number: int) -> None:
    plan = networks.plan(number)
    tensors = export.to_torch(plan.model, plan.params, prefix="m.")
    assert_same(export.from_torch(plan.model, tensors, prefix="m."), plan.params)
    fresh = plan.model.init(random.key(0, "init"))
    back = export.from_keras(plan.model, export.to_keras(plan.model, plan.params))
    assert_same(tree.trained(back), tree.trained(plan.params))
    assert tree.outline(back) == tree.outline(fresh)


@pytest.mark.parametrize("number", [1, 3])  # with EmbedColumns and with Standardize
def test_parameters_of_every_library(backend: Backend, number: int) -> None:
    """Arrays of any library and on any device give what NumPy's give."""
    plan = networks.plan(number)
    host = tree.map(lambda leaf: leaf.astype(np.float32), plan.params)
    given = backend.tree(host, "float32")
    wanted, found = export.to_torch(plan.model, host), export.to_torch(plan.model, given)
    assert list(found) == list(wanted) and all((found[name] == wanted[name]).all() for name in wanted)
    assert_same(export.from_torch(plan.model, {name: backend.array(wanted[name]) for name in wanted}), host)
    back = export.from_keras(plan.model, [*map(backend.array, export.to_keras(plan.model, given))])
    assert_same(tree.trained(back), tree.trained(host))
    assert {str(leaf.dtype) for leaf in tree.leaves(back)} == {"float32"}
    outputs = tuple(map(str, range(plan.model.forward(host, plan.x)[0].shape[1])))
    ours, theirs = (
        export.Pipeline(plan.model, params, plan.x.shape[1:], "scores", classes=outputs) for params in (host, given)
    )
    assert export.to_script(ours) == export.to_script(theirs)
    pytest.importorskip("onnx")
    assert export.to_onnx(plan.model, given, plan.x.shape[1:]) == export.to_onnx(plan.model, host, plan.x.shape[1:])
    assert export.pipeline_to_onnx(ours) == export.pipeline_to_onnx(theirs)


def test_constants_are_those_of_the_layers_if_absent() -> None:
    model = nn.Sequential(nn.Standardize((1.0,), (2.0,)), nn.Linear(1, 1))
    tensors = export.to_torch(model, model.init(random.key(0, "init")))
    assert sorted(tensors) == ["0.mean", "0.scale", "1.bias", "1.weight"]
    given = {name: tensors[name] for name in ("1.weight", "1.bias")}
    assert export.from_torch(model, given)[0].scale.value.tolist() == [0.5]
    changed = export.from_torch(model, {**tensors, "0.mean": np.array([9.0])})
    assert changed[0].mean.value.tolist() == [9.0]


class Own:
    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        return x, None

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
        return dy, ()


def test_faults_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    good = export.to_torch(model, model.init(random.key(0, "init")))
    renamed = {name.replace("2.", "3."): tensor for name, tensor in good.items()}
    with pytest.raises(
        InputError, match=r"missing '2.weight', '2.bias'.*not of these.*'3.weight'.*expected '0.weight'"
    ):
        export.from_torch(model, renamed)
    with pytest.raises(InputError, match=r"found 'a.0.bias'.*another prefix"):
        export.from_torch(model, {f"a.{name}": tensor for name, tensor in good.items()})
    many = {f"{i}.{kind}": np.ones(1) for i in range(11, 0, -1) for kind in ("weight", "bias")}
    with pytest.raises(
        InputError, match=r"not of these layers '1.bias', '1.weight', '3.bias', .*found .*'9.weight', '10.bias'"
    ):
        export.from_torch(model, many)
    with pytest.raises(InputError, match=r"0.weight has shape \(2, 3\); the layers expect \(3, 2\)"):
        export.from_torch(model, {**good, "0.weight": good["0.weight"].T})
    with pytest.raises(InputError, match=r"0.bias contains a value that is not finite"):
        export.from_torch(model, {**good, "0.bias": good["0.bias"] * np.nan})
    with pytest.raises(InputError, match=r"0.bias has dtype int64; expected floating point"):
        export.from_torch(model, {**good, "0.bias": good["0.bias"].astype(np.int64)})
    with pytest.raises(InputError, match=r"expected 4 arrays of the shapes 0.weight \(2, 3\).*found 1 of"):
        export.from_keras(model, [np.ones((2, 3))])
    own = nn.Sequential(nn.Linear(2, 3), Own())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"the layer 1, Own, has no names in torch or Keras.*the layers around it"):
        export.to_torch(own, own.init(random.key(0, "init")))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs on digits with different seeds, and one on numbers."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        run(Settings(dataset="digits", hidden="16", epochs=2, seed=seed), output=folder / str(seed))
    rng = np.random.default_rng(0)
    rows = "".join(f"{a:.3f},{b:.3f},{1000 + 30 * a + c:.2f}\n" for a, b, c in rng.normal(size=(60, 3)))
    (folder / "table.csv").write_text(f"a,b,price\n{rows}")
    table = str(folder / "table.csv")
    run(Settings(dataset=table, target="price", task="regression", hidden="8", epochs=2), output=folder / "numbers")
    return folder


def test_export_and_import_of_runs(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights of one run in the other predict what the first predicts."""
    torch = pytest.importorskip("safetensors.torch")
    file = tmp_path / "w.safetensors"
    assert main(["export", str(runs / "0"), str(file), "--layout", "torch", "--prefix", "net."]) == 0
    assert "wrote" in capsys.readouterr().out
    assert torch.load_file(file)["net.2.weight"].shape == (16, 64)
    assert b'"format":"pt"' in file.read_bytes()[:2000]
    assert main(["import", str(file), str(runs / "1"), "--output", str(tmp_path / "new"), "--prefix", "net."]) == 0
    x = np.arange(128).reshape(2, 8, 8) % 17
    first, new = SavedRun.open(runs / "0"), SavedRun.open(tmp_path / "new")
    assert (new.predict(x).scores == first.predict(x).scores).all() and new.settings.seed == 1


def test_constants_of_a_regression_travel(runs: Path, tmp_path: Path) -> None:
    file, x = tmp_path / "w.safetensors", np.array([[3.0, 1.0], [50.0, 2.0]])
    saved = SavedRun.open(runs / "numbers")
    assert main(["export", str(runs / "numbers"), str(file)]) == 0
    changed = saved.with_params(tree.map(lambda leaf: leaf + 1, saved.whole()[1]))
    changed.save(tmp_path / "changed")
    assert SavedRun.open(tmp_path / "changed").goal.shift[0] == pytest.approx(saved.goal.shift[0] + 1)
    assert main(["import", str(file), str(tmp_path / "changed"), "--output", str(tmp_path / "back")]) == 0
    np.testing.assert_allclose(SavedRun.open(tmp_path / "back").predict(x).scores, saved.predict(x).scores, rtol=1e-6)


def test_import_into_given_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    t, file, new = torch.nn, tmp_path / "w.safetensors", tmp_path / "new.safetensors"
    made = t.Sequential(t.Linear(4, 6), t.BatchNorm1d(6), t.GELU(), t.Linear(6, 3)).train()
    made(torch.tensor(X, dtype=torch.float32))  # updates the running statistics
    save(made.eval().state_dict(), file)
    options = ("--sizes", "4,6,3", "--activation", "gelu", "--norm", "batch")
    assert main(["import", str(file), "--output", str(new), *options]) == 0
    model, params, _ = xpnn.load_model(new)
    wanted = made(torch.tensor(X, dtype=torch.float32)).detach().numpy()
    assert_close(model.forward(params, X.astype(np.float32))[0], wanted, ulps=512)
    capsys.readouterr()
    for wrong, message in (
        (("--sizes", "4"), "--sizes: got '4'; expected at least two numbers"),
        (("--sizes", "4,x"), "--sizes: '4,x' is not a list of whole numbers"),
        (("--sizes", "4,5,3"), "expected '0.weight', '0.bias', '2.weight'; found '0.bias', '0.weight', '1.bias'"),
        ((), "expected either the folder of a run, or --sizes"),
    ):
        assert main(["import", str(file), "--output", str(tmp_path / "other"), *wrong]) == 2
        shown = capsys.readouterr().err
        assert message in shown and shown.count("\n") == 1


def test_faults_of_the_commands(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def message(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        return shown

    file = tmp_path / "w.safetensors"
    assert main(["export", str(runs / "0"), str(file)]) == 0
    capsys.readouterr()
    assert "already exists; name another file" in message("export", runs / "0", file)
    assert "'.pt'; expected one of .onnx, .safetensors, .py" in message("export", runs / "0", tmp_path / "w.pt")
    assert "is not a folder" in message("export", runs / "0", tmp_path / "no" / "w.safetensors")
    assert "does not contain a run" in message("export", tmp_path, tmp_path / "v.safetensors")
    assert "--layout" in message("export", runs / "0", tmp_path / "v.safetensors", "--layout", "caffe")
    new = tmp_path / "new"
    wrong = message("import", file, runs / "numbers", "--output", new)
    assert str(file) in wrong and "not of these layers '0.factor'" in wrong and "expected '2.weight'" in wrong
    assert "already exists" in message("import", file, runs / "0", "--output", runs / "1")
    assert f"'{tmp_path / 'no'}' does not exist; check" in message(
        "import", tmp_path / "no", runs / "0", "--output", new
    )
    assert "(Is a directory); check" in message("import", tmp_path, runs / "0", "--output", new)
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-3])
    assert "not a complete safetensors" in message("import", tmp_path / "cut.safetensors", runs / "0", "--output", new)
    assert not new.exists()
