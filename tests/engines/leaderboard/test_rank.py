# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.artifacts.leaderboard import Leaderboard, RankedConfiguration, RankedRun
from paddlex_ml.engines.leaderboard import files
from paddlex_ml.engines.leaderboard import rank as module
from paddlex_ml.engines.leaderboard.collect import collect
from paddlex_ml.metrics import significance
from tests.finished_runs import NAMES, draw_scores, draw_targets, write_run

TARGETS = draw_targets(200)


def board(root: Path) -> Leaderboard:
    return module.rank(collect([root]))


def by_name(found: Leaderboard, number: int = 0) -> dict[str, RankedRun]:
    return {run.name: run for run in found.lists[number].runs}


@pytest.mark.parametrize("cells", [2 * 10**8, 1])
def test_the_best_comes_first_and_marks_tell_chance_from_difference(tmp_path, monkeypatch, cells):
    monkeypatch.setattr(significance, "_CELLS", cells)  # the second: influences
    for name, distance in (("good", 2.0), ("as_good", 1.95), ("bad", 0.5)):
        scores = draw_scores(TARGETS, distance, 5 + (name == "as_good"))
        write_run(tmp_path / name, scores, TARGETS)
    write_run(tmp_path / "copy", draw_scores(TARGETS, 2.0, 5), TARGETS)
    found = board(tmp_path)
    [ranked] = found.lists
    assert [run.name for run in ranked.runs] == ["copy", "good", "as_good", "bad"], [
        run.map for run in ranked.runs
    ]
    assert [run.standing.verdict for run in ranked.runs] == ["best", "equal", "equal", "worse"]
    assert [run.standing.rank for run in ranked.runs] == [1, 2, 3, 4]
    best, same, _, bad = (run.standing for run in ranked.runs)
    assert (best.p_value, best.difference, same.p_value, same.difference) == (None, 0, 1, 0)
    assert bad.p_value is not None
    assert bad.p_value < 0.001
    assert bad.difference == pytest.approx(ranked.runs[3].map - ranked.runs[0].map)
    assert (ranked.images, ranked.label_names) == (200, NAMES)
    assert (ranked.rounds > 0) == (cells > 1)
    assert found.options == []
    assert found.configurations[0].configurations[0].runs == ["as_good", "bad", "copy"]


def test_runs_of_other_lists_are_not_ranked_together(tmp_path):
    for seed in (1, 2):
        targets = draw_targets(100, seed=seed)
        write_run(tmp_path / f"list_{seed}", draw_scores(targets, seed, 0), targets)
    write_run(tmp_path / "again", draw_scores(targets, 1, 1), targets)
    found = board(tmp_path)
    assert [[run.name for run in each.runs] for each in found.lists] == [
        ["list_2", "again"], ["list_1"],
    ]  # fmt: skip
    assert len({each.digest for each in found.lists}) == 2


def test_a_run_without_scores_is_ranked_and_marked_and_told_how_to_get_them(tmp_path):
    write_run(tmp_path / "a b", draw_scores(TARGETS, 1.0, 0), TARGETS, keeps_scores=False)
    write_run(tmp_path / "c", draw_scores(TARGETS, 2.0, 0), TARGETS)
    runs = by_name(board(tmp_path))
    assert runs["a b"].standing.verdict == "unknown"
    assert runs["a b"].standing.p_value is None
    assert runs["a b"].per_class == []
    assert runs["a b"].evaluate.endswith(f"-c '{tmp_path}/a b/config.yaml' -o Global.mode=evaluate")
    assert runs["c"].evaluate == ""
    assert len(runs["c"].per_class) == 4


def test_options_that_differ_are_shown_and_only_these(tmp_path):
    for rate in (0.001, 0.002):
        options = {"Train.learning_rate": rate, "Global.seed": int(rate * 1000)}
        write_run(tmp_path / str(rate), draw_scores(TARGETS, 1, 0), TARGETS, options)
    found = board(tmp_path)
    assert found.options == ["Train.learning_rate"]
    assert {run.options["Train.learning_rate"] for run in found.lists[0].runs} == {"0.001", "0.002"}
    assert {run.seed for run in found.lists[0].runs} == {"1", "2"}
    assert found.configurations == []  # each has one run


def configurations(root: Path) -> dict[str, RankedConfiguration]:
    [ranked] = board(root).configurations
    return {each.options["Train.learning_rate"]: each for each in ranked.configurations}


def test_seeds_become_mean_and_deviation(tmp_path):
    maps = []
    for rate, distance in ((0.001, 2.0), (0.002, 0.5)):
        for seed in (1, 2, 3):
            options = {"Train.learning_rate": rate, "Global.seed": seed}
            scores = draw_scores(TARGETS, distance + seed / 50, seed)
            maps.append(write_run(tmp_path / f"{rate}_{seed}", scores, TARGETS, options))
    found = configurations(tmp_path)
    good, bad = found["0.001"], found["0.002"]
    assert good.mean == pytest.approx(sum(maps[:3]) / 3)
    assert good.deviation == pytest.approx(
        (sum((value - good.mean) ** 2 for value in maps[:3]) / 2) ** 0.5
    )
    assert (good.seeds, good.folds, len(good.runs)) == (3, 1, 3)
    assert (good.standing.verdict, bad.standing.verdict) == ("best", "worse")


def test_a_training_that_was_repeated_with_its_seed_is_no_further_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        scores = draw_scores(TARGETS, 2, seed)
        write_run(tmp_path / name, scores, TARGETS, {"Global.seed": seed})
    [found] = board(tmp_path).configurations[0].configurations
    assert found.runs == ["a", "c"]


def test_one_seed_is_compared_by_the_spread_of_the_others(tmp_path):
    for rate, seed in ((0.001, 1), (0.001, 2), (0.002, 1)):
        options = {"Train.learning_rate": rate, "Global.seed": seed}
        scores = draw_scores(TARGETS, 2, seed + 7)
        write_run(tmp_path / f"{rate}_{seed}", scores, TARGETS, options)
    found = configurations(tmp_path)
    assert {each.standing.verdict for each in found.values()} == {"best", "equal"}
    assert found["0.002"].deviation is None


def test_folds_are_put_together_and_compared_in_pairs(tmp_path):
    for fold in (1, 2, 3, 4):
        targets = draw_targets(200, seed=fold)
        for rate, distance in ((0.001, 2.0), (0.002, 1.0)):
            options = {
                "Train.learning_rate": rate,
                "Global.dataset_dir": f"/sweep/folds/fold_{fold}_of_4",
            }
            scores = draw_scores(targets, distance, fold)
            write_run(tmp_path / f"{rate}_{fold}", scores, targets, options)
    found = board(tmp_path)
    assert len(found.lists) == 4
    assert found.options == ["Train.learning_rate"]
    assert {run.fold for each in found.lists for run in each.runs} == {
        f"{fold} of 4" for fold in (1, 2, 3, 4)
    }
    [ranked] = found.configurations
    assert len(ranked.digests) == 4
    assert [each.folds for each in ranked.configurations] == [4, 4]
    assert [each.standing.verdict for each in ranked.configurations] == ["best", "worse"]
    assert "* the difference of the means holds also for other folds" in files.render(found)


def test_a_run_that_does_not_tell_its_list_has_no_place(tmp_path):
    write_run(tmp_path / "old", draw_scores(TARGETS, 1, 0), TARGETS)
    (tmp_path / "old" / "run.json").unlink()
    (tmp_path / "old" / "label_dict.txt").touch()
    found = board(tmp_path)
    assert found.lists == []
    assert "release 0.1.0" in found.others[0].problem
