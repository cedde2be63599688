# SPDX-License-Identifier: Apache-2.0
"""docs/deploy/web: an ONNX file in onnxruntime-web gives the scores of this project."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, which drives the browser"
)
CHROMIUM = shutil.which("chromium")
RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB", "."))
NAMES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
pytestmark = [
    pytest.mark.story,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium on the PATH"),
    pytest.mark.skipif(
        not all((RUNTIME / name).is_file() for name in NAMES),
        reason="needs the folder dist of onnxruntime-web in $ONNXRUNTIME_WEB: .ci/deploy_packages",
    ),
]

FILES = Path(__file__).resolve().parent.parent.parent / "docs" / "deploy" / "web"
UNREADABLE = {"photo.tif", "8_bits.tif", "whole.tif", "floats.tif", "floats_of_255.tif"}
"""Chromium reads no TIFF."""
DIFFERENT = {"12_bits.png", "turned.webp"}
"""12 bits in a file of 16 are dark in Chromium, and it ignores the orientation of WebP."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Visit:
    """The page in a browser, what it asked for and all that went wrong."""

    def __init__(self, browser: Any, address: str) -> None:
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context().new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.wait()

    def wait(self) -> None:
        self.page.wait_for_selector("main[aria-busy=false]", state="attached", timeout=120_000)

    def state(self) -> str:
        text: str = self.page.text_content("#state")
        return text

    def choose(self, photos: list[str]) -> list[tuple[list[float], str]]:
        """Scores and text of each photograph; no scores where it cannot be read."""
        self.page.set_input_files("#photos", photos)
        self.page.wait_for_selector(
            f"figure:nth-child({len(photos)}) :is(li, [role=alert])", state="attached"
        )
        self.wait()
        return [
            (json.loads(figure.get_attribute("data-scores") or "[]"), figure.inner_text())
            for figure in self.page.query_selector_all("figure")
        ]


@pytest.fixture(scope="module")
def address(both: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder of docs/deploy.md, served on loopback."""
    folder = Path(shutil.copytree(FILES, tmp_path_factory.mktemp("web") / "web"))
    shutil.copy(both[1] / "inference.onnx", folder)
    (folder / "ort").mkdir()
    for name in NAMES:
        shutil.copy(RUNTIME / name, folder / "ort")
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # No sandbox: the tests may run as root, and the page is our own.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def test_the_browser_gives_our_scores_and_asks_no_other_host(
    browser: Any, address: str, both: tuple[Path, Path], pictures: list[str]
) -> None:
    visit = Visit(browser, address)
    assert visit.state() == "inference.onnx: 5 classes"
    found = visit.choose(pictures)
    every = list(Predictor(StaticModel(both[0], "cpu"), 0.0).predict(pictures))
    above = list(Predictor(StaticModel(both[0], "cpu")).predict(pictures))
    unreadable = set()
    for (scores, text), one, mine in zip(found, every, above, strict=True):
        name = Path(str(one.input_path)).name
        if not scores:
            unreadable.add(name)
            assert "no labels: The source image could not be decoded." in text
        elif name not in DIFFERENT:
            expected = dict(zip(one.class_ids, one.scores, strict=True))
            assert scores == pytest.approx([expected[i] for i in range(5)], abs=2e-5), name
            lines = [line.rpartition(" ")[0] for line in text.splitlines()[1:] if line.strip()]
            assert lines == mine.label_names
    assert unreadable == UNREADABLE
    assert visit.faults == []
    assert len(visit.asked) >= 7
    assert all(url.startswith((address, f"blob:{address}")) for url in visit.asked)


def test_the_page_resizes_to_the_pixels_of_pillow(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    rng = np.random.default_rng(0)
    for _ in range(40):
        rows, columns, height, width = map(int, rng.integers(1, 100, 4))
        pixels = rng.integers(0, 256, (rows, columns, 4), np.uint8)
        got = visit.page.evaluate(
            """async ([data, columns, rows, width, height]) => {
                const { resize } = await import("./model.mjs");
                return [...resize({ data, width: columns, height: rows }, width, height)];
            }""",
            [pixels.ravel().tolist(), columns, rows, width, height],
        )
        found = np.array(got, np.uint8).reshape(height, width, 4)[..., :3]
        image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
        expected = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        assert np.array_equal(found, expected)


def test_the_page_names_what_it_cannot_read_and_goes_on(
    browser: Any, address: str, both: tuple[Path, Path], shared: Path, tmp_path: Path
) -> None:
    folder = shared / "reference" / "transforms" / "images"
    photos = [str(folder / f"{name}.jpg") for name in ("truncated", "empty", "garbage", "coco")]
    visit = Visit(browser, address)
    for model, told in (
        (folder / "rgb.png", "rgb.png: not an ONNX file, or not a whole one"),
        (both[1] / "inference.yml", "inference.yml: not an ONNX file, or not a whole one"),
        (both[1] / "inference.onnx", "inference.onnx: 5 classes"),
    ):
        visit.page.set_input_files("#model", str(model))
        visit.page.get_by_text(told, exact=True).wait_for()
        visit.wait()
        assert visit.page.is_disabled("#photos") == ("classes" not in told)
    found = visit.choose(photos)
    assert [bool(scores) for scores, _ in found] == [False, False, False, True]
    assert all("no labels: " in text for _, text in found[:3])
    assert visit.faults == []


def test_without_a_model_beside_it_the_page_asks_for_one(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/inference.onnx", lambda route: route.fulfill(status=404))
    page.goto(address)
    page.get_by_text("inference.onnx: not beside this page: choose a file").wait_for()
    assert page.is_disabled("#photos")
    assert page.is_enabled("#model")
