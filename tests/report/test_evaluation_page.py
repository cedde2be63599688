# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.export_report import AloneReport, ClassChange, ExportReport, LayerReport
from paddlex_ml.metrics.measures import Metrics
from paddlex_ml.report import evaluation_page
from paddlex_ml.report.content import EvaluationPage

NASTY = '<script>alert(1)</script> & "猫" \'}{{ 7*7 }}'


class Reader(HTMLParser):
    """Collects tags, attributes, texts, and the elements that carry a figure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.raw = text
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.figures: list[tuple[str, str, str, str]] = []  # key, value, title, text
        self.text = ""
        self.scripts: list[str] = []
        self._open: dict[str, str] | None = None
        self._in = ""
        self.feed(text)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in = tag
        found = {name: value or "" for name, value in attrs}
        self.attributes += found.items()
        if "data-key" in found:
            self._open = {**found, "text": ""}

    def handle_endtag(self, tag: str) -> None:
        self._in = ""
        if self._open is not None:
            one = self._open
            title = one.get("title", "")
            self.figures.append((one["data-key"], one["data-value"], title, one["text"]))
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif self._in != "style":
            self.text += data
            if self._open is not None:
                self._open["text"] += data


def read(content: EvaluationPage, path: Path) -> Reader:
    evaluation_page.write(path, content)
    return Reader(path.read_text("utf-8"))


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, float | None]]:
    """All numbers below a value, with their paths, and what stands undefined in their place."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from numbers(below, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from numbers(below, f"{key}.{place}")
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield key, value


def look_up(result: Any, key: str) -> Any:
    for part in key.split("."):
        result = result[int(part)] if isinstance(result, list) else result[part]
    return result


def as_json(result: EvaluationResult) -> Any:
    return json.loads(json.dumps(msgspec.to_builtins(result)))


class MetricsOfLater(Metrics, frozen=True, kw_only=True):
    later_metric: float


def assert_same_figures(found: Reader, written: Any) -> int:
    """Every figure of the page is that of the JSON, and none of the JSON is left out."""
    for key, value, title, text in found.figures:
        expected = look_up(written, key)
        if expected is None:
            assert (value, text) == ("", "–"), key
            assert len(title) > 10, key
            continue
        assert json.loads(value) == expected, key
        plain = text.replace(",", "").replace("\N{MINUS SIGN}", "-")
        places = len(plain.partition(".")[2])
        assert abs(float(plain) - expected) <= 0.5000001 * 10**-places, (key, text)
        assert places >= 2 or isinstance(expected, int), (key, text)
    shown = {key for key, *_ in found.figures}
    sections = ("metrics", "per_class", "thresholds", "label_errors", "comparison")
    wanted = {
        key
        for section in sections
        for key, value in numbers(written[section], section)
        if key not in sections and key != "thresholds.target"
    }
    assert wanted - shown == set()
    return len(wanted)


def test_every_figure_is_that_of_the_json_and_none_is_left_out(tmp_path, evaluated):
    content = evaluated(["cat", "dog", "cow", "never"], rounds=20)
    targets = content.targets.copy()
    targets[:, 3] = 0
    content = evaluated(["cat", "dog", "cow", "never"], targets=targets, rounds=20)
    found = read(content, tmp_path / "report.html")
    assert content.result.per_class[3].average_precision is None
    assert assert_same_figures(found, as_json(content.result)) > 150
    keys = {key for key, *_ in found.figures}
    assert {"metrics.MultiLabelMAP_ci95.1", "per_class.2.tuned.f1"} <= keys


def test_a_figure_that_differs_would_be_seen(tmp_path, evaluated):
    content = evaluated(["cat", "dog"])
    found = read(content, tmp_path / "report.html")
    changed = as_json(content.result)
    changed["per_class"][1]["recall"] += 1e-9
    with pytest.raises(AssertionError, match=r"per_class\.1\.recall"):
        assert_same_figures(found, changed)
    changed = as_json(content.result)
    changed["metrics"]["later_metric"] = 0.5
    with pytest.raises(AssertionError, match=r"metrics\.later_metric"):
        assert_same_figures(found, changed)


def test_a_metric_that_the_page_does_not_know_is_shown_by_its_name(tmp_path, evaluated):
    content = evaluated(["cat", "dog"])
    metrics = MetricsOfLater(**msgspec.structs.asdict(content.result.metrics), later_metric=0.4321)
    content = dataclasses.replace(content, result=replace(content.result, metrics=metrics))
    found = read(content, tmp_path / "report.html")
    assert ("metrics.later_metric", "0.4321", "", "0.4321") in found.figures
    assert "later_metric" in found.text


@pytest.mark.parametrize("section", ["thresholds", "label_errors", "comparison"])
def test_each_optional_part_may_be_missing(tmp_path, evaluated, section):
    content = evaluated(["cat", "dog", "cow"])
    result = replace(content.result, **{section: None})
    if section == "thresholds":
        rows = [replace(row, tuned=None) for row in result.per_class]
        result = replace(result, per_class=rows)
    content = dataclasses.replace(content, result=result)
    found = read(content, tmp_path / "report.html")
    assert_same_figures(found, as_json(content.result))
    assert ("comparison" in found.values("id")) == (section != "comparison")
    assert ("labels" in found.values("id")) == (section != "label_errors")
    assert ("with the tuned threshold" in found.text) == (section != "thresholds")


def empty(images: int, classes: int) -> np.ndarray:
    return np.zeros((images, classes), np.uint8)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("names", "images", "targets"),
    [
        (["one"], 2, None),
        (["one"], 1, np.ones((1, 1), np.uint8)),
        (["a", "b", "c"], 12, np.zeros((12, 3), np.uint8)),
        (["a", "b", "c"], 12, np.ones((12, 3), np.uint8)),
    ],
)
def test_the_smallest_and_the_emptiest_give_a_page(
    tmp_path, evaluated, names, images, targets, complete
):
    content = evaluated(names, images, targets=targets, complete=complete)
    found = read(content, tmp_path / "report.html")
    assert_same_figures(found, as_json(content.result))
    assert ("Nothing can be measured" in found.text) == (not content.targets.any())
    assert re.search(r"\bnan\b|None\b(?! at)", found.text) is None


def test_the_page_needs_nothing_from_elsewhere_and_its_only_script_is_named_by_hash(
    tmp_path, evaluated
):
    found = read(evaluated(["cat", NASTY, "cow"]), tmp_path / "report.html")
    assert {"link", "iframe", "object", "form", "base"}.isdisjoint(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert {source.partition(",")[0] for source in found.values("src")} == {
        "data:image/jpeg;base64"
    }
    assert found.tags.count("script") == 1
    digest = base64.b64encode(hashlib.sha256("".join(found.scripts).encode()).digest()).decode()
    written = re.findall(r"<style>(.*?)</style>", found.raw, re.DOTALL)
    assert len(written) == 1
    style = base64.b64encode(hashlib.sha256(written[0].encode()).digest()).decode()
    policy = next(value for value in found.values("content") if "default-src" in value)
    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'sha256-{style}'; style-src-attr 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not re.search(r"url\(|@import|https?://", found.raw)


def test_every_link_leads_somewhere(tmp_path, evaluated):
    found = read(evaluated(["cat", "dog", "cow"]), tmp_path / "report.html")
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    inside = {link[1:] for link in found.values("href") if link.startswith("#")}
    assert inside - set(ids) == set()
    outside = {link for link in found.values("href") if not link.startswith("#")}
    assert outside == {"./label_errors.csv", "./per_class.csv"}


def test_names_of_every_kind_arrive_as_they_are(tmp_path, evaluated):
    names = [NASTY, "", "  ", "一只猫", "x" * 300, "a,b\tc", "<b>"]
    found = read(evaluated(names), tmp_path / "report.html")
    for name in (NASTY, "一只猫", "x" * 300, "<b>"):
        assert name in found.text
    assert "(class 1, no name)" in found.text
    assert "(class 2, no name)" in found.text
    assert "alert(1)" not in "".join(found.scripts)


def test_file_names_that_are_not_utf_8_are_written(tmp_path, evaluated):
    content = evaluated(["cat", "dog"])
    name = os.fsdecode(b"caf\xe9.png")
    changed = EvaluationPage(**{**vars(content), "shown": [name] * len(content.shown)})
    found = read(changed, tmp_path / "report.html")
    assert "caf?.png" in found.text


def test_photographs_that_are_gone_or_broken_leave_a_grey_tile(tmp_path, evaluated):
    content = evaluated(["cat", "dog", "cow"])
    before = read(content, tmp_path / "report.html")
    assert "missing or broken" not in before.text
    content.paths[0].unlink()
    content.paths[1].write_bytes(b"not a picture")
    after = read(content, tmp_path / "report.html")
    gone = after.text.count("This picture is missing or broken.")
    assert gone > 0
    assert before.tags.count("img") == after.tags.count("img") + gone


def test_many_classes_show_the_worst_and_fold_the_rest(tmp_path, evaluated):
    names = [f"class {i}" for i in range(500)]
    content = evaluated(names, images=300)
    found = read(content, tmp_path / "report.html")
    assert "476 more classes" in found.text
    assert found.tags.count("article") == 500
    assert assert_same_figures(found, as_json(content.result)) > 500 * 14
    assert (tmp_path / "report.html").stat().st_size < 8_000_000


def test_of_thousands_of_classes_both_ends_are_drawn_and_all_are_listed(tmp_path, evaluated):
    names = [f"class {i} </script>" for i in range(2000)]
    content = evaluated(names, images=200)
    found = read(content, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 6_000_000
    assert found.tags.count("article") == sum(evaluation_page._ENDS) == 130
    assert "The 130 weakest and strongest of 2,000 classes" in found.text
    assert "of the 500 with the most errors" in found.text or found.raw.count("falsely found")
    links = {*re.findall('href="#(class-[0-9]+)"', found.raw)}
    assert links <= {*re.findall('id="(class-[0-9]+)"', found.raw)}
    (text,) = re.findall('id="all-classes">(.*?)</script>', found.raw, re.DOTALL)
    listed = json.loads(text)
    rows = content.result.per_class
    assert [row[:2] for row in listed] == [[row.name, row.positives] for row in rows]
    assert [row[4] for row in listed] == [row.predicted for row in rows]
    for column, key in ((2, "average_precision"), (3, "threshold"), (7, "f1")):
        for row, listed_row in zip(rows, listed, strict=True):
            value = getattr(row, key)
            assert listed_row[column] == (None if value is None else round(value, 4))


def test_the_classes_stand_from_weak_to_strong_and_undefined_ones_last(tmp_path, evaluated):
    names = ["strong", "never", "weak"]
    scores, targets = evaluated(names).scores, np.zeros((40, 3), np.uint8)
    targets[:20, 0] = scores[:20, 0] > 0
    targets[:, 2] = scores[:, 2] < np.median(scores[:, 2])
    content = evaluated(names, targets=targets)
    values = [row.average_precision for row in content.result.per_class]
    assert values[2] < values[0]
    found = read(content, tmp_path / "report.html")
    order = re.findall(r'<tr><th scope="row"[^>]*><a href="#class-(\d)"', found.raw)
    assert order == ["2", "0", "1"]


def test_unknown_labels_are_told_and_counted_nowhere(tmp_path, evaluated):
    names = ["cat", "dog", "yak"]
    targets = evaluated(names).targets.copy()
    targets[::4, 0] = -1
    targets[:, 2] = -1
    content = evaluated(names, targets=targets, rounds=20)
    found = read(content, tmp_path / "report.html")
    assert_same_figures(found, as_json(content.result))
    assert "50 of 120 labels are unknown, and no figure counts them" in found.text
    assert "Nobody has looked for 1 class in the validation list" in found.text
    assert "Known to be absent, but with the highest scores." in found.text
    titles = {title for key, _, title, _ in found.figures if key == "per_class.2.recall"}
    assert titles == {"nobody has looked for this class"}
    rows = [(row.positives + row.negatives) for row in content.result.per_class]
    assert rows == [30, 40, 0]
    assert "unknown" not in read(evaluated(names), tmp_path / "known.html").text


def test_an_export_in_lower_precision_has_a_section(evaluated, tmp_path: Path) -> None:
    content = evaluated(["cat", NASTY])
    evaluation_page.write(tmp_path / "page.html", content)
    assert "What the precision has cost" not in (tmp_path / "page.html").read_text("utf-8")
    report = ExportReport(
        precision="int8",
        images=40,
        batch_size=8,
        alone=AloneReport(images=20, largest_difference=0.0125, changed_decisions=0.003),
        val_digest="abc",
        calibration_images=30,
        bytes=8_100_000,
        bytes_fp32=32_400_000,
        map=0.7,
        map_fp32=0.71,
        map_difference_ci95=(-0.02, 0.01),
        mean_movement=0.01,
        largest_movement=0.25,
        changed_decisions=0.005,
        max_changed_decisions=0.01,
        max_map_loss=0.005,
        layers=3,
        left=[LayerReport(name=NASTY, kind="Conv", shape=[2, 3], level="float", effect=0.125)],
        per_class=[
            ClassChange(name="cat", changed=0, threshold=0.5),
            ClassChange(name=NASTY, changed=3, threshold=0.5, tuned_threshold=0.4),
        ],
        trials=[],
    )
    evaluation_page.write(tmp_path / "page.html", dataclasses.replace(content, precision=report))
    page = Reader((tmp_path / "page.html").read_text("utf-8"))
    section = page.text[page.text.index("What the precision has cost") :]
    section = " ".join(section[: section.index("evaluate_result.json")].split())
    for part in (
        "compared with the float32 export on 40 images of val.txt, 8 at a time, by the same",
        "20 of them get scores that differ from those by 0.0125 at most; 0.30 % of their decisions",
        "from 30 images of train.txt",
        "-0.0100 (95 % interval -0.0200 to +0.0100)",
        "32.4 MB",
        "8.1 MB",
        "0.50 %",
        "0.2500",
        "Changed decisions of 1 of 2 classes",
        "1 of 3 layers do not compute in int8",
        NASTY,
    ):
        assert part in section
    assert page.scripts == Reader((tmp_path / "page.html").read_text("utf-8")).scripts
    assert len(page.scripts) == 1
    bare = msgspec.structs.replace(
        report,
        **dict.fromkeys(("map_difference_ci95", "batch_size", "alone")),
        left=[],
        per_class=[],
        calibration_images=0,
    )
    evaluation_page.write(tmp_path / "page.html", dataclasses.replace(content, precision=bare))
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "95 % interval -0.02" not in text
    assert "at a time" not in text


def test_the_page_says_the_thresholds_in_use_and_how_many_errors_it_leaves_out(
    evaluated, tmp_path: Path
) -> None:
    content = evaluated([f"class {i}" for i in range(10)], images=200)
    result = replace(content.result, thresholds_from="run/best_model/inference")
    text = read(dataclasses.replace(content, result=result), tmp_path / "page.html").text
    assert "Thresholds in use: 0.5 for every class (of run/best_model/inference)" in text
    (shown, total), *_ = re.findall(r"(\d+) of (\d+) are shown: of one class at most 4", text)
    assert (shown, int(total) > 24) == ("24", True)


def test_a_perfect_class_is_none_of_the_weakest(evaluated, tmp_path: Path) -> None:
    content = evaluated(["cat", "dog", "cow"], images=60)
    rows = content.result.per_class
    per_class = [replace(rows[0], average_precision=0.996), *rows[1:]]
    per_class[1:] = [replace(row, average_precision=0.9999) for row in rows[1:]]
    result = replace(content.result, per_class=per_class)
    text = read(dataclasses.replace(content, result=result), tmp_path / "page.html").text
    (weakest,) = re.findall(r"Weakest classes:(.*)\(average precision\)", text)
    assert weakest.split() == ["cat", "0.996"]


def test_the_denominators_of_the_tables_are_said(evaluated, tmp_path: Path) -> None:
    found = read(evaluated(["cat", "dog", "cow"], images=60), tmp_path / "page.html")
    assert found.text.count("These are shares of all images that show the class of the row") == 2
