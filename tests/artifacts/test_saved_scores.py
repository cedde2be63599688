# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.artifacts import saved_scores
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import influence
from paddlex_ml.metrics.average_precision import average_precision
from paddlex_ml.metrics.ties import NOISE
from tests.finished_runs import draw_scores, draw_targets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path, targets = tmp_path / "val_scores.npz", draw_targets(30, 3)
    write(path, draw_scores(targets, 1.0, 0), targets)
    return path


def write(path: Path, scores: np.ndarray, targets: np.ndarray) -> None:
    names = [f"class {number}" for number in range(targets.shape[1])]
    saved_scores.write(
        path, scores, targets, val_digest="0" * 64, label_names=names, weights="ema", epoch=2
    )


def test_what_is_written_is_read_and_numpy_reads_it_too(path):
    targets = draw_targets(30, 3)
    targets[3, 1] = -1
    scores = draw_scores(targets, 1.0, 0)
    write(path, scores, targets)
    summary, (found, truth) = saved_scores.read_summary(path), saved_scores.read_table(path)
    assert (found == scores).all()
    assert (truth == targets).all()
    assert (found.dtype, truth.dtype) == (np.float32, np.int8)
    expected = average_precision(scores, targets, noise=NOISE)
    assert summary.average_precision == pytest.approx(expected)
    assert summary.influence == pytest.approx(influence.measure(scores, targets).on_mean)
    assert (summary.note.weights, summary.note.epoch) == ("ema", 2)
    assert summary.note.map == pytest.approx(expected.mean())
    with np.load(path) as archive:
        assert sorted(archive) == sorted(saved_scores._TYPES)
        assert (archive["scores"] == scores).all()


def test_the_same_scores_give_the_same_bytes(path):
    before, targets = path.read_bytes(), draw_targets(30, 3)
    write(path, draw_scores(targets, 1.0, 0), targets)
    assert path.read_bytes() == before


def test_scores_that_are_too_many_are_not_kept_and_told(path, monkeypatch, caplog):
    monkeypatch.setattr(saved_scores, "LARGEST", 4 * 30 * 3 - 1)
    targets = draw_targets(30, 3)
    with caplog.at_level(logging.INFO):
        write(path, draw_scores(targets, 1.0, 0), targets)
    assert not path.exists()
    assert "the scores of 30 images and 3 classes are not kept" in caplog.text


def change(path: Path, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        kept = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in (kept | {name: content}).items():
            archive.writestr(entry, data)


def array(values: object, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values, **options))  # type: ignore[call-overload]
    return file.getvalue()


def note(**changed: object) -> bytes:
    fields = {"format_version": 1, "val_digest": "0", "label_names": ["a", "b", "c"], "map": 0.5}
    return array(np.frombuffer(json.dumps(fields | changed).encode(), np.uint8))


HUGE = array([[0.5]], dtype="<f4").replace(b"(1, 1), }", b"(9999999, 9999), }")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("note.npy", note(format_version=2), "a newer one"),
        ("note.npy", note(label_names=["a"]), "another number of classes"),
        ("note.npy", array([1], dtype="u1"), "malformed"),
        ("influence.npy", b"\x93NUMPY\x02\x00", "does not begin as an array"),
        ("influence.npy", array([object()], dtype=object), "does not begin as an array"),
        ("influence.npy", array([1.0], dtype="<f4"), "another array"),
        ("scores.npy", HUGE, "another array"),
        ("scores.npy", array([[0.5]], dtype="<f4"), "other shapes"),
    ],
)
def test_a_damaged_file_is_one_clear_error(path, name, content, problem):
    change(path, name, content)
    read = saved_scores.read_table if name == "scores.npy" else saved_scores.read_summary
    with pytest.raises(PaddlexMLError, match=problem) as caught:
        read(path)
    assert caught.value.where == str(path)


def test_compressed_short_and_missing_files_are_refused(path):
    with pytest.raises(PaddlexMLError, match="No such file"):
        saved_scores.read_summary(path.with_name("none.npz"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(PaddlexMLError, match="not a zip file"):
        saved_scores.read_summary(path)
    path.write_bytes(whole)
    change(path, "note.npy", note(), zipfile.ZIP_DEFLATED)
    with pytest.raises(PaddlexMLError, match="is compressed"):
        saved_scores.read_summary(path)
