# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from paddlex_ml.report import gallery


def test_the_worst_are_shown_and_those_alone_that_are_errors(evaluated):
    content = evaluated(["cat", "dog", "cow"], images=60)
    decided = content.scores >= 0.5
    present = content.targets == 1
    found = gallery.choose_shots(content, decided, worst=[2, 0, 1])
    misses = np.sort(content.scores[:, 0][present[:, 0] & ~decided[:, 0]])
    alarms = np.sort(content.scores[:, 0][~present[:, 0] & decided[:, 0]])[::-1]
    shown = next(row for row in found.classes if row.id == 0)
    assert [s.score for s in shown.misses] == misses[:6].tolist()
    assert [s.score for s in shown.alarms] == alarms[:6].tolist()
    assert (shown.missed, shown.alarmed) == (len(misses), len(alarms))
    assert found.missed == int((present & ~decided).sum())
    everywhere = np.sort(content.scores[present & ~decided])
    assert found.misses[0].score == everywhere[0]
    scores = [s.score for s in found.alarms]
    assert scores == sorted(scores, reverse=True)


def test_one_bad_class_does_not_fill_the_gallery_of_all(evaluated):
    names = [f"class {i}" for i in range(10)]
    content = evaluated(names, images=200)
    content.scores[:, 0] = 0.01
    found = gallery.choose_shots(content, content.scores >= 0.5, worst=list(range(10)))
    assert len(found.misses) == 24
    assert [s.label for s in found.misses].count("class 0") == 4


def test_of_few_errors_all_are_shown_whatever_their_class(evaluated):
    content = evaluated([f"class {i}" for i in range(13)], images=100)
    decided = content.targets == 1
    absent = np.flatnonzero(content.targets[:, 0] == 0)[:20]
    decided[absent, 0] = True  # 20 false alarms of one class
    other = int(np.flatnonzero(content.targets[:, 1] == 0)[0])
    decided[other, 1] = True
    found = gallery.choose_shots(content, decided, worst=[])
    scores = [*content.scores[absent, 0], content.scores[other, 1]]
    assert [s.score for s in found.alarms] == sorted(map(float, scores), reverse=True)


def test_a_photograph_says_its_labels_score_and_name(evaluated):
    content = evaluated(["cat", ""], images=1, targets=np.array([[1, 1]], np.uint8))
    found = gallery.choose_shots(content, np.array([[True, False]]), worst=[0, 1])
    (shot,) = found.misses
    assert (shot.label, shot.given, shot.shown) == (
        "(class 1, no name)", "cat, (class 1, no name)", "0.png",
    )  # fmt: skip
    assert found.thumbnails[shot.path].startswith("data:image/jpeg;base64,")


def test_suspects_say_what_is_wrong_and_the_first_60_are_shown(evaluated):
    content = evaluated(["cat", "dog", "cow"], images=60)
    found = gallery.choose_shots(content, content.scores >= 0.5, worst=[0, 1, 2])
    assert len(content.suspects) == 70
    assert len(found.suspects) == 60
    for shot, suspect in zip(found.suspects, content.suspects, strict=False):
        kind = "wrong" if suspect.given else "missing"
        assert shot.note == f"{kind}: {suspect.label}, score {suspect.score:.2f}"


def test_without_errors_there_are_no_pictures(evaluated):
    content = evaluated(["cat", "dog"], complete=False)
    found = gallery.choose_shots(content, content.targets == 1, worst=[0, 1])
    assert (found.misses, found.alarms, found.classes) == ([], [], [])
    assert found.thumbnails == {}


def test_an_unknown_label_is_no_error_and_is_counted_beneath_the_picture(evaluated):
    targets = np.array([[1, -1, -1], [-1, 0, 1]], np.int8)
    content = evaluated(["cat", "dog", "cow"], images=2, targets=targets, complete=False)
    for decided in (np.ones((2, 3), bool), np.zeros((2, 3), bool)):
        found = gallery.choose_shots(content, decided, worst=[0, 1, 2])
        shots = [(shot.label, shot.shown, shot.given) for shot in (*found.misses, *found.alarms)]
        if decided.any():
            assert shots == [("dog", "1.png", "cow (1 unknown)")]
        else:
            assert sorted(shots) == [
                ("cat", "0.png", "cat (2 unknown)"), ("cow", "1.png", "cow (1 unknown)"),
            ]  # fmt: skip
        assert (found.missed, found.alarmed) == ((0, 1) if decided.any() else (2, 0))
