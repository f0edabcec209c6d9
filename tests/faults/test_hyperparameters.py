"""Wrong hyper-parameters: refused at construction, all at once, before any data is read or any weight is drawn."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from xpnn import EarlyStopping, ReduceLROnPlateau, Trainer, nn, optim, training
from xpnn.arrays import random
from xpnn.errors import DeviceMemoryError, InputError
from xpnn.experiments import Settings
from xpnn.nn import traits
from xpnn.testing import cases
from xpnn.validation import Problems, as_count, as_finite, as_float

KEY = random.key(0, "init")


def parts() -> Iterator[Any]:
    """One instance of every public layer, loss, optimizer, schedule, metric and initializer that is a dataclass."""
    yield from (row.layer for row in cases.LAYERS.values())
    yield from (row.loss for row in cases.LOSSES.values())
    yield from (row.metric for row in cases.METRICS.values())
    yield from (*cases.OPTIMIZERS.values(), *cases.SCHEDULES.values(), nn.L2(0.1))
    yield from (nn.TruncatedNormal(0.1), nn.Constant(1), nn.Orthogonal(1.0), nn.VarianceScaling(1, "fan_in", "normal"))


#: (class, field, instance) of every field that holds a number.
NUMBERS = {
    (type(part).__name__, field.name): (part, field.name)
    for part in parts()
    if dataclasses.is_dataclass(part)
    for field in dataclasses.fields(part)
    if field.init and type(getattr(part, field.name)) in (int, float)
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400, "x"], ids=lambda bad: str(bad)[:4])
@pytest.mark.parametrize("part", NUMBERS, ids=".".join)
def test_no_parameter_is_nan_infinite_or_a_text(part: tuple[str, str], bad: Any) -> None:
    if part == ("HuberLoss", "delta") and bad == math.inf:
        pytest.skip("the loss is then that of MSELoss, divided by 2")
    instance, field = NUMBERS[part]
    with pytest.raises(InputError, match=field.rpartition("_")[2]):
        dataclasses.replace(instance, **{field: bad})


def test_every_class_with_a_number_is_tested() -> None:
    assert len(NUMBERS) > 80
    assert {"Linear", "Dropout", "HuberLoss", "Adam", "CosineAnnealingLR", "F1Score"} <= {name for name, _ in NUMBERS}


SEVERAL: list[tuple[Callable[[], Any], list[str]]] = [
    (lambda: nn.Linear(0, -3, weight_init="he_norml"), ["in_features: 0", "out_features: -3", "did you mean"]),
    (lambda: nn.Embedding(0, 1.5, weight_init="?"), ["num_embeddings: 0", "embedding_dim: 1.5", "initializer: '?'"]),
    (lambda: nn.BatchNorm1d(0, eps=0, momentum=2), ["features: 0", "eps is 0.0", "momentum is 2.0"]),
    (lambda: nn.LayerNorm(-1, eps=math.nan), ["features: -1", "eps is nan"]),
    (lambda: nn.RandomDistortion(degrees=999, sigma=0, scale=(2, 1)), ["degrees is", "scale is (2.0", "sigma is"]),
    (lambda: nn.RandomDistortion(degrees="x", scale=3), ["degrees: 'x'", "scale is 3"]),
    (lambda: nn.HuberLoss(0, "meen"), ["delta is 0.0", "did you mean 'mean'"]),
    (lambda: nn.QuantileLoss(2, "sun"), ["q is 2.0", "did you mean 'sum'"]),
    (lambda: nn.PoissonNLLLoss(reduction="sun", eps=0), ["eps is 0.0", "did you mean 'sum'"]),
    (
        lambda: nn.CrossEntropyLoss([-1], 2, 0.5, "meen"),  # type: ignore[arg-type]
        ["class_weight is (-1.0", "label_smoothing is 2", "ignore_index is 0.5", "did you mean 'mean'"],
    ),
    (lambda: nn.VarianceScaling(-1, "fan_inn", "gauss"), ["scale is -1.0", "did you mean 'fan_in'", "'gauss'"]),
    (lambda: nn.TruncatedNormal(0, 0, "fan_inn"), ["std is 0.0", "cut is 0.0", "did you mean 'fan_in'"]),
    (lambda: nn.L2(-1, "weight"), ["alpha is -1.0", "only is 'weight'"]),
    (lambda: optim.Adam(-1, (2, 3), "x"), ["lr = -1.0", "betas is (2.0, 3.0)", "eps: 'x'"]),
    (lambda: optim.AdamW(-1, 0.9, weight_decay=-1), ["lr = -1.0, weight_decay = -1.0", "betas is 0.9"]),
    (lambda: optim.NAdam(-1, momentum_decay=-1, betas=(1, 1)), ["momentum_decay = -1.0", "betas is (1.0"]),
    (lambda: optim.Lion(optim.CosineAnnealingLR, betas=()), ["lr: CosineAnnealingLR is a class", "betas is ()"]),
    (lambda: optim.Muon(-1, ns_steps=0, adjust_lr_fn="orignal"), ["lr = -1", "ns_steps: 0", "did you mean 'original'"]),
    (lambda: optim.SGD(-1, nesterov=True), ["lr = -1.0", "nesterov needs a momentum"]),
    (lambda: optim.ClipGradNorm("adam", -1), ["'adam' is not an optimizer", "max_norm = -1.0"]),
    (lambda: optim.StepLR(-1, 0, 2), ["lr = -1.0", "step_size = 0.0", "gamma = 2.0"]),
    (lambda: optim.LinearWarmup(-1, 0, 2), ["lr = -1.0", "epochs = 0.0", "start_factor = 2.0"]),
    (lambda: optim.OneCycleLR(-1, 0, 1), ["max_lr = -1.0", "total_epochs = 0.0", "pct_start = 1.0"]),
    (lambda: training.F1Score(1, average="macor", threshold=math.nan), ["classes is 1", "'macro'", "threshold: nan"]),
    (lambda: EarlyStopping("val_loss", -1, -1, "mini"), ["patience: -1", "min_delta is -1", "did you mean 'min'"]),
    (
        lambda: ReduceLROnPlateau("temperature", 2, 0.5, cooldown=-1, min_lr=-1),  # type: ignore[arg-type]
        ["'temperature' does not show", "factor is 2", "patience: 0.5", "cooldown: -1", "min_lr is -1"],
    ),
    (
        lambda: nn.MLP(0, 2, [0], activation="rellu", norm="btch", dropout=2, weight_init="he_norml"),
        ["in_features: 0", "hidden_sizes[0]: 0", "'relu'?", "'batch'?", "p is 2.0", "'he_normal'?"],
    ),
    (lambda: nn.Sequential(nn.ReLU, 3), ["ReLU is a class", "3 is not a layer"]),  # type: ignore[arg-type]
    (
        lambda: Trainer(nn.Linear, nn.MSELoss("none"), "adam"),  # type: ignore[arg-type]
        ["is not a model", "is not an optimizer", 'reduction "none"'],
    ),
    (
        lambda: Trainer(nn.Linear(1, 1), nn.MSELoss(), optim.SGD(), dtype="float16", precision="bf17", ema=1),
        ["dtype: 'float16'", "did you mean 'bf16'", "ema: 1"],
    ),
    (
        lambda: Settings(lr=-1, dropout="2", activation="rellu", hidden="0", momentum=0.5, augment="degree=3"),
        ["`lr`: -1", "`dropout`: 2.0", "'relu'?", "`hidden`: 0", "`momentum` belongs to", "did you mean 'degrees'"],
    ),
    (
        lambda: Settings(epochs=10**20, scale=1e-300, warmup=math.nan, betas="0.9", loss="l1", task="classification"),
        ["`epochs`: 1", "`scale`: 1e-300", "`warmup`: nan", "`betas`: '0.9' is not two", "`loss` l1 belongs to `task`"],
    ),
    (
        lambda: Settings(epochs="3", seed=1.5, optimizer=3, hidden=(8, 4)),  # type: ignore[arg-type]
        ["`epochs`: '3'", "`seed`: 1.5", "`optimizer`: 3 is ", "`hidden`: (8, 4) is "],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), SEVERAL, ids=[words[0] for _, words in SEVERAL])
def test_all_problems_are_reported_at_once(make: Callable[[], Any], expected: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make()
    text = str(caught.value)
    assert text.startswith(f"{text.count('(1)') and len(re.findall(r'; [(][0-9]+[)] ', text)) + 1} problems: (1) ")
    assert [words for words in expected if words not in text] == [] and "\n" not in text


def test_nothing_is_collected_but_input_errors() -> None:
    problems = Problems()
    with pytest.raises(ZeroDivisionError), problems:
        1 / 0  # noqa: B018
    problems.raise_found()
    assert not problems
    for _ in range(2):  # the same problem twice
        with problems:
            as_float("lr", "x")
    with pytest.raises(InputError, match=r"^lr: 'x' is not a number$"):
        problems.raise_found()
    with pytest.raises(InputError, match="too large"):
        as_count("epochs", 10**20)
    with pytest.raises(InputError, match="threshold: inf is not a finite number"):
        as_finite("threshold", math.inf)


COMMANDS = [
    ("--lr -1 --dropout 2 --activation rellu --hidden 0", ["--lr: -1.0", "--dropout: 2.0", "'relu'?", "--hidden: 0"]),
    ("--lr 0 --batch-size -1", ["--lr: 0.0 is not a number above 0", "--batch-size: -1"]),
    ("--lr 1e9 --scale 1e-300 --epochs 100000000000000000000", ["--lr: 1000", "--scale: 1e-300", "--epochs: 1"]),
    ("--momentum 0.5 --decay nan --weight-decay -1", ["--momentum belongs to", "--decay: nan", "--weight-decay: -1"]),
    ("--label-smoothing nan --clip-norm inf --ema nan", ["--label-smoothing: nan", "--clip-norm: inf", "--ema: nan"]),
    ("--image-size 3 --augment degrees=x --patience -1", ["--image-size: '3'", "--augment: 'x'", "--patience: -1"]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), COMMANDS, ids=[options for options, _ in COMMANDS])
def test_the_command_reports_all_problems_in_one_line(options: str, expected: list[str], run: Any) -> None:
    status, out, err = run("train", "nowhere.csv", *options.split())  # before any data is read
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert [words for words in expected if words not in err] == []


def test_layers_that_do_not_fit() -> None:
    expected = r"layer 2, Linear\(9, 2\), takes 9 features, but layer 0, Linear\(4, 8\), gives 8$"
    with pytest.raises(InputError, match=expected):
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(9, 2))
    inner = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 8), nn.Softmax())
    with pytest.raises(InputError) as caught:
        nn.Sequential(nn.Linear(4, 7), inner, nn.Residual(nn.Linear(8, 8)), nn.BatchNorm1d(9), nn.Linear(9, 2))
    assert str(caught.value) == (
        "2 problems: (1) Sequential: layer 1, Sequential(8, 8), takes 8 features, but layer 0, Linear(4, 7), gives 7; "
        "(2) Sequential: layer 3, BatchNorm1d(9), takes 9 features, but layer 2, Residual(8), gives 8"
    )
    with pytest.raises(InputError, match=r"layer 0, Standardize\(2\), gives 2"):
        nn.Sequential(nn.Standardize((0, 0), (1, 1)), nn.SmoothClip(), nn.Linear(3, 1))


@dataclass(frozen=True)
class Pairs:
    """A custom layer without traits: twice as many features."""

    in_features: int = 3  # a field of this name is no trait

    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        return np.concatenate([x, x], axis=1), None

    def backward(self, params: Any, residuals: None, dy: Any, *, need_dx: bool = True) -> Any:
        n = dy.shape[1] // 2
        return dy[:, :n] + dy[:, n:], ()


class Halved(nn.Linear):
    """A subclass that gives other features than `Linear`."""

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        y, kept = super().forward(params, x, key=key)
        return y[:, ::2], kept


@dataclass(frozen=True)
class Stated(Pairs):
    features_in: ClassVar[int] = 4
    features_out: ClassVar[int] = 8
    weight_count: ClassVar[int] = 10**15


def test_custom_layers_state_what_they_want() -> None:
    x = np.ones((2, 4))
    for layers in ((Pairs(), nn.Linear(8, 2)), (nn.Flatten(), nn.Linear(4, 2)), (Halved(4, 6), nn.Linear(3, 2))):
        model = nn.Sequential(nn.Identity(), *layers)
        assert model.forward(model.init(KEY), x)[0].shape == (2, 2)
    assert (traits.features_in(Pairs()), traits.features_out(Pairs()), traits.weight_count(Pairs())) == (None, None, 0)
    with pytest.raises(
        InputError, match=r"layer 1, Linear\(9, 2\), takes 9 features, but layer 0, Stated\(4, 8\), gives"
    ):
        nn.Sequential(Stated(), nn.Linear(9, 2))
    with pytest.raises(DeviceMemoryError, match=r"1,000,000,000,000,\d+ weights"):
        nn.Sequential(Stated(), nn.Linear(8, 2)).init(KEY)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.MLP(784, 10, [10**6, 10**6]),
        lambda: nn.Linear(10**6, 10**6),
        lambda: nn.Embedding(10**9, 10**3),
        lambda: nn.Residual(nn.Sequential(nn.Linear(10**6, 10**6))),
        lambda: nn.Sequential(nn.EmbedColumns((0,), (nn.Embedding(10**9, 10**3),))),
    ],
)
def test_more_weights_than_the_memory_holds(make: Callable[[], Any]) -> None:
    with pytest.raises(
        DeviceMemoryError, match=r"000,000 weights take [\d.]+ GiB of memory, of which [\d.]+ GiB are free"
    ):
        Trainer(make(), nn.MSELoss(), optim.SGD())


def test_the_command_refuses_too_many_weights_before_it_reads_data(run: Any) -> None:
    status, out, err = run("train", "nowhere.csv", "--hidden", "1000000,1000000")
    assert (status, out) == (3, "") and err.count("\n") == 1 and "1,000,003,000,000 weights take 7451 GiB" in err
