# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io

import msgspec
import pytest

from paddlex_ml.artifacts.benchmark_result import BenchmarkResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.engines.benchmark import files
from paddlex_ml.report import benchmark_page
from tests.results import BENCHMARKED, benchmark_row


def test_the_result_is_read_as_it_was_written():
    text = msgspec.json.encode(BENCHMARKED)
    assert msgspec.json.decode(text, type=BenchmarkResult) == BENCHMARKED


def test_the_best_speed_is_that_of_the_batch_with_the_most_images():
    assert BENCHMARKED.rows[0].best_speed.batch_size == 8


def test_table_and_page_replace_those_of_before_and_nothing_else(tmp_path):
    names = RunFolder(tmp_path).benchmark
    names.folder.mkdir()
    names.benchmark_csv.write_text("old")
    (names.folder / "mine.txt").write_text("mine")
    files.write(names, BENCHMARKED)
    found = {path.name for path in names.folder.iterdir()}
    assert found == {"benchmark.csv", "report.html", "mine.txt"}
    rows = list(csv.DictReader(io.StringIO(names.benchmark_csv.read_text("utf-8"))))
    assert [row["run_mode"] for row in rows] == ["onnxruntime", "onnxruntime", "mkldnn", "paddle"]
    assert (rows[0]["format"], rows[3]["folder"]) == ("onnx int8", "")
    assert float(rows[1]["latency_p50"]) == 0.015
    assert float(rows[1]["images_per_second_batch_8"]) == pytest.approx(72.0)


def test_a_failure_leaves_the_folder_of_before(tmp_path, monkeypatch):
    names = RunFolder(tmp_path).benchmark
    files.write(names, BENCHMARKED)
    before = names.report.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchmark_page, "write", fail)
    with pytest.raises(OSError, match="No space"):
        files.write(names, msgspec.structs.replace(BENCHMARKED, notes=[]))
    assert names.report.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["benchmark"]


def test_the_terminal_has_a_row_for_each_and_what_was_not_measured():
    lines = list(files.tabulate(BENCHMARKED))
    assert max(map(len, lines[:6])) <= 110
    assert lines[0].split()[:4] == ["export", "by", "run", "mode"]
    assert lines[2].startswith("* onnx int8 by onnxruntime")
    assert lines[2].endswith("2.00% !")
    assert lines[3].startswith("> onnx by onnxruntime")
    assert lines[4].startswith("  paddle by mkldnn")
    assert "72.0 (8)" in lines[3]
    assert lines[6].startswith("400 of 500 images of val.txt, cpu, 2 threads")
    assert lines[8:] == [
        "note: 400 images in place of 500",
        "not measured: onnx fp16: not exported: make it",
        "not measured: paddle by trt_fp32: made for a GPU",
    ]


def test_memory_that_the_system_does_not_tell_is_a_dash():
    row = benchmark_row("onnx", "onnxruntime", 15.0, 0.63, peak_bytes=None, is_recommended=True)
    lines = list(files.tabulate(msgspec.structs.replace(BENCHMARKED, rows=[row])))
    assert lines[2].split()[-3:] == ["-", "0.6300", "0.00%"]
