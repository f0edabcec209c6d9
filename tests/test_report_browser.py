"""The page of `xpnn report` in a browser: Chromium, driven by playwright. Without them, these tests are skipped."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn import Trainer, nn, optim
from xpnn.experiments import RunResult, SavedRun, Settings, prepare
from xpnn.experiments import run as train
from xpnn.report import write_report

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def result() -> RunResult:
    return train(Settings(hidden="32", epochs=15), device="cpu", backend="numpy")


@pytest.fixture(scope="module")
def path(result: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report([result, result], path)
    return path


def opened(browser: Any, path: Path, width: int = 1280, **options: Any) -> tuple[Any, list[str]]:
    """A page, and what it complains of or asks the network for."""
    page = browser.new_page(viewport={"width": width, "height": 800}, **options)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    return page, problems


def arc(x: float, y: float, rx: float, ry: float, first: float, last: float) -> list[tuple[float, float]]:
    angles = np.radians(np.linspace(first, last, 16))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


#: Strokes in a field from (0, 0) to (1, 1).
DRAWN = {
    "0": [arc(0.5, 0.5, 0.22, 0.35, -90, 270)],
    "3": [arc(0.48, 0.32, 0.2, 0.17, 200, 450) + arc(0.48, 0.67, 0.22, 0.18, -90, 150)],
    "4": [[(0.55, 0.15), (0.28, 0.6), (0.75, 0.6)], [(0.6, 0.4), (0.6, 0.87)]],
    "5": [[(0.7, 0.16), (0.36, 0.16), (0.33, 0.46), *arc(0.48, 0.64, 0.22, 0.2, -120, 140)]],
    "7": [[(0.3, 0.17), (0.72, 0.17), (0.45, 0.85)]],
}


def draw(page: Any, strokes: list[list[tuple[float, float]]]) -> None:
    """Draw with the mouse."""
    field = page.locator("canvas.pad")
    field.scroll_into_view_if_needed()
    box = field.bounding_box()
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def test_drawn_digit_is_answered_by_the_network(browser: Any, path: Path, result: RunResult) -> None:
    page, problems = opened(browser, path)
    saved, right = SavedRun.of(result.experiment, None), 0
    answer = page.locator("#draw output")
    for digit, strokes in DRAWN.items():
        assert answer.inner_text() == "Draw a digit."
        draw(page, strokes)
        pixels = np.array(page.evaluate("strokes => xpnn.pixelsOf(strokes)", [[list(p) for p in s] for s in strokes]))
        assert pixels.shape == (64,) and pixels.min() >= 0 and 14 < pixels.max() <= 16
        scores = saved.predict(pixels.reshape(1, 8, 8)).scores[0]
        assert answer.inner_text() == f"The network sees a {scores.argmax()} ({100 * scores.max():.1f}%)."
        shares = page.locator("#draw .bars span").all_inner_texts()
        assert shares == [f"{100 * score:.1f}%" for score in scores]
        right += str(scores.argmax()) == digit
        page.get_by_role("button", name="Clear").click()
    assert right >= 4 and problems == []
    page.close()


def test_drawing_with_a_finger_on_a_phone(browser: Any, path: Path) -> None:
    page, problems = opened(browser, path, 390, has_touch=True, color_scheme="dark")
    page.locator("canvas.pad").scroll_into_view_if_needed()
    page.locator("canvas.pad").tap()  # a dot
    assert page.locator("#draw output").inner_text().startswith("The network sees a ") and problems == []
    page.close()


#: Every layer that the page computes, in two networks: some would hide mistakes of those before them.
NETWORKS = {
    "first": (
        nn.Flatten(), nn.Scale(1 / 8), nn.Standardize(tuple(np.linspace(0, 1, 64)), tuple(np.linspace(1, 3, 64))),
        nn.SmoothClip(1.5), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.GELU(),
        nn.Residual(nn.Sequential(nn.Linear(16, 16), nn.ELU(0.7))), nn.LayerNorm(16), nn.SiLU(), nn.RMSNorm(16),
        nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 16, bias=False), nn.GELU("tanh"), nn.Linear(16, 10),
    ),
    "second": (
        nn.Scale(1 / 16), nn.Flatten(), nn.Linear(64, 16), nn.Softplus(2.0), nn.Linear(16, 16), nn.Tanh(),
        nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 16), nn.ReLU(), nn.Identity(), nn.Linear(16, 16), nn.Softmax(),
        nn.Linear(16, 16), nn.LogSoftmax(), nn.Linear(16, 10),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "bits"), [("first", 32), ("second", 32), ("second", 16)])
def test_layers_are_those_of_the_library(
    browser: Any, tmp_path: Path, name: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bits == 16:  # as for a large network
        monkeypatch.setattr("xpnn.report.page.drawing._AS_FLOAT32", 100)
    experiment = prepare(Settings(hidden="4", epochs=5))
    model = nn.Sequential(*NETWORKS[name])
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(0.02), metrics=experiment.trainer.metrics)
    experiment = dataclasses.replace(experiment, model=model, trainer=trainer)
    experiment.fit()
    write_report(RunResult(experiment, {}), tmp_path / "report.html")
    page, problems = opened(browser, tmp_path / "report.html")
    x = experiment.data.x_test[:20]
    got = page.evaluate("rows => rows.map(xpnn.answer)", x.reshape(20, 64).tolist())
    wanted = SavedRun.of(experiment, None).predict(x).scores
    np.testing.assert_allclose(np.array(got), wanted, rtol=0, atol=5e-6 if bits == 32 else 5e-3)
    assert np.ptp(wanted, axis=0).max() > 0.3  # it depends on the pixels
    assert json.loads(page.locator("#network").text_content())["bits"] == bits
    assert ("rounded to 16 bits" in page.content()) is (bits == 16) and problems == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_is_wider_than_the_page(browser: Any, path: Path, width: int, scheme: str) -> None:
    page, problems = opened(browser, path, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll("main *")].filter((one) => !one.closest(".scroll, .plot")
             && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
    assert page.evaluate(cut) == []
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 27)")
    line = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert line == ("rgb(29, 35, 41)" if scheme == "light" else "rgb(230, 234, 238)")  # charts follow the theme
    measure = """(one) => {
        const { a, b } = one.getScreenCTM();
        return parseFloat(getComputedStyle(one).fontSize) * Math.hypot(a, b);
    }"""
    sizes = page.evaluate(f"[...document.querySelectorAll('figure svg text')].map({measure})")
    assert min(sizes) > 9.5 and problems == []  # pixels
    page.close()


def test_values_on_hover(browser: Any, path: Path, result: RunResult) -> None:
    page, problems = opened(browser, path)
    chart = page.locator("figure").first
    box = chart.locator("svg").bounding_box()
    point = json.loads(chart.get_attribute("data-hover"))["points"][4]
    unit = box["width"] / 360
    assert chart.locator(".tip").is_hidden()
    page.mouse.move(box["x"] + point[0] * unit + 1, box["y"] + box["height"] / 2)
    assert chart.locator(".tip").inner_text() == point[2]
    assert f"training {result.history[4]['loss']:.4g}" in point[2] and point[2].startswith("epoch 5\n")
    dot = chart.locator(".dot").bounding_box()
    assert abs(dot["x"] + dot["width"] / 2 - box["x"] - point[0] * unit) < 1
    page.mouse.move(1, 1)
    assert chart.locator(".tip").is_hidden() and problems == []
    page.close()


def test_print_is_light_and_without_the_field(browser: Any, path: Path) -> None:
    page, problems = opened(browser, path, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("canvas.pad").is_hidden() and page.locator(".matrix").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF-") and problems == []
    page.close()


def test_policy_of_the_page_refuses_connections_pictures_and_scripts(browser: Any, path: Path) -> None:
    page, _ = opened(browser, path)
    refused = page.evaluate("""async () => {
        const found = [];
        document.addEventListener("securitypolicyviolation", (event) => found.push(event.effectiveDirective));
        await fetch("http://127.0.0.1:9/").catch(() => 0);
        new Image().src = "http://127.0.0.1:9/a.png";
        const script = document.createElement("script");
        script.textContent = "window.bad = 1";
        document.body.append(script);
        for (let i = 0; found.length < 3 && i < 300; i++) await new Promise((done) => setTimeout(done, 10));
        return [found.sort(), window.bad];
    }""")
    assert refused == [["connect-src", "img-src", "script-src-elem"], None]
    page.close()


def test_page_without_javascript(browser: Any, path: Path) -> None:
    page, _ = opened(browser, path, java_script_enabled=False)
    assert page.locator("#draw").is_hidden() and page.get_by_text("This field needs JavaScript.").is_visible()
    assert page.locator("figure svg").first.is_visible() and page.locator(".matrix").first.is_visible()
    page.close()
