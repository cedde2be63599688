# SPDX-License-Identifier: Apache-2.0
"""The list of many classes as a browser shows it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data.transforms import read_image
from paddlex_ml.pictures import dataset_page
from paddlex_ml.pictures.dataset_page import DatasetPage, PagePairs, PageWarning
from tests.pictures.test_dataset_page import page_list
from tests.report.payloads import PAYLOADS

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, which drives the browser"
)
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium on the PATH")

CLASSES = 3000
NAMES = [f"class {i}" for i in range(CLASSES)]
NAMES[7], NAMES[8], NAMES[9] = '<b>"quoted"</b> & </script>', "قطة صغيرة", "CAFÉ"
IN_PAGE = 40  # pictures


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # No sandbox: the tests may run as root, and the page is our own.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose class i has one image in train; the last class has none, 10 are in val."""
    folder = tmp_path_factory.mktemp("page")
    paths = [f"image #{i} 猫%.png" for i in range(CLASSES - 1)]
    for i, path in enumerate(paths):
        Image.new("RGB", (120, 90), (i % 256, i // 256, 90)).save(folder / path)
    targets = np.eye(CLASSES, dtype=np.uint8)[:-1]
    ten = np.zeros((10, CLASSES), np.uint8)
    ten[:, 5] = 1
    for i in range(10):
        Image.new("RGB", (120, 90)).save(folder / f"val{i}.png")
    content = DatasetPage(
        read=read_image,
        root=folder,
        label_names=NAMES,
        train=page_list(paths, targets),
        val=page_list([f"val{i}.png" for i in range(10)], ten),
        warnings=[],
        pairs=PagePairs(np.arange(2), np.ones((2, 2), np.int64)),
        sizes={side: {"min": 1, "median": 2000, "max": 3} for side in ("width", "height")},
        formats={"PNG": CLASSES},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_page, "_FEWEST", IN_PAGE)
        dataset_page.write(folder / "report.html", content)
    return folder


class Visit:
    """The page in a browser, what it asked for and all that went wrong."""

    def __init__(self, browser: Any, address: str) -> None:
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context().new_page()
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def names(self) -> list[str]:
        found: list[str] = self.page.eval_on_selector_all(
            "#classes .name", "names => names.map(name => name.textContent)"
        )
        return found

    def pictures(self, count: int) -> list[int]:
        """Widths of the `count` samples that are shown, all of them loaded."""
        shown = "count => document.querySelectorAll('#classes img').length === count"
        self.page.wait_for_function(shown, arg=count)
        found: list[int] = self.page.eval_on_selector_all(
            "#classes img",
            "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))",
        )
        return found


@pytest.fixture
def visit(browser: Any, root: Path) -> Iterator[Visit]:
    opened = Visit(browser, (root / "report.html").as_uri())
    yield opened
    assert opened.faults == []
    assert all(url.startswith(("file:", "data:")) for url in opened.asked)
    opened.page.context.close()


def test_all_classes_are_listed_a_hundred_at_a_time(visit: Visit) -> None:
    assert visit.names() == [NAMES[5], *NAMES[:5], *NAMES[6:100]]  # 5 has images in val
    assert visit.page.inner_text("#found") == "3,000 of 3,000 classes, the first 100 are shown"
    visit.page.click("#more")
    assert len(visit.names()) == 200


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class 1234", [NAMES[1234]]),
        ("CLASS 299", [f"class {i}" for i in (299, *range(2990, 3000))]),
        ("<b>", [NAMES[7]]),
        ("قطة", [NAMES[8]]),
        ("cafe\u0301", [NAMES[9]]),
        ("no such class", []),
    ],
)
def test_the_search_finds_parts_of_names_in_any_writing(
    visit: Visit, text: str, found: list[str]
) -> None:
    visit.page.fill("#search", text)
    assert visit.names() == found
    assert visit.page.inner_text("#found") == f"{len(found)} of 3,000 classes"


def test_classes_are_sorted_and_filtered(visit: Visit) -> None:
    visit.page.select_option("#sort", "name")
    names = [name for name in visit.names() if name.startswith("class")]
    assert names == sorted(names, key=lambda name: int(name[6:]))  # 9 before 10
    visit.page.select_option("#sort", "id")
    visit.page.check("#reverse")
    assert visit.names()[:2] == ["class 2999", "class 2998"]
    visit.page.check("#absent")
    visit.page.fill("#search", "class 5")
    # Those of 5, 50 to 59 and 500 to 599 without the one that has images in both lists.
    assert visit.page.inner_text("#found").startswith("110 of 3,000 classes")


def test_a_click_shows_samples_from_the_page_or_from_the_files(visit: Visit) -> None:
    visit.page.click("#classes summary >> nth=0")
    assert visit.pictures(6) == [80, *[120] * 5]
    assert len([url for url in visit.asked if url.endswith(".png")]) == 5
    visit.page.fill("#search", "class 2500")
    visit.page.click("#classes summary")
    assert visit.pictures(1) == [120]
    assert "image #2500 猫%.png" in visit.page.inner_text("#classes figcaption")


def test_a_picture_that_is_nowhere_is_said(visit: Visit, root: Path) -> None:
    (root / "image #2600 猫%.png").unlink()
    visit.page.fill("#search", "class 2600")
    visit.page.click("#classes summary")
    visit.page.wait_for_selector("#classes .gone")
    assert "its file is not on this computer" in visit.page.inner_text("#classes .gone")
    visit.faults.clear()  # the browser says so too


def test_a_class_without_an_image_says_so(visit: Visit) -> None:
    visit.page.fill("#search", "class 2999")
    visit.page.click("#classes summary")
    assert visit.page.inner_text("#classes .shots") == "no image"


@pytest.mark.parametrize("classes", [len(PAYLOADS), 101])
def test_no_text_of_a_user_runs(browser: Any, tmp_path: Path, classes: int) -> None:
    names = [*PAYLOADS, *(f"class {i}" for i in range(classes - len(PAYLOADS)))]
    folder = tmp_path / PAYLOADS[4]
    folder.mkdir()
    paths = [f"{text.replace('/', '')}.png" for text in PAYLOADS]
    for path in paths:
        Image.new("RGB", (20, 20)).save(folder / path)
    targets = np.eye(len(paths), classes, dtype=np.uint8)
    content = DatasetPage(
        read=read_image,
        root=folder,
        label_names=names,
        train=page_list(paths, targets),
        val=page_list(paths[:2], targets[:2]),
        warnings=[PageWarning(text, ((paths[0],),), names=names) for text in PAYLOADS],
        pairs=PagePairs(np.arange(20), np.ones((20, 20), np.int64)),
        sizes={side: {"min": 1, "median": 20, "max": 30} for side in ("width", "height")},
        formats=dict.fromkeys(PAYLOADS, 1),
    )
    page = tmp_path / "report.html"
    dataset_page.write(page, content)
    seen = Visit(browser, page.as_uri())
    seen.page.eval_on_selector_all("summary", "all => all.forEach(each => each.click())")
    seen.page.wait_for_timeout(100)
    assert seen.page.evaluate("window.ran") is None
    assert [url for url in seen.asked if not url.startswith(("data:", "file:"))] == []
    assert seen.faults == []
    seen.page.close()
