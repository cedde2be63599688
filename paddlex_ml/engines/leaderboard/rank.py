# SPDX-License-Identifier: Apache-2.0
"""Runs -> Leaderboard: ranked within each list of images, and which differences hold.

A run stands for its weights: the comparison of two runs tells which of the two models is better on
images like these. A configuration stands for all models that it may give: its comparison adds how
much the runs of one configuration differ (`metrics.significance`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from paddlex_ml import program, systems
from paddlex_ml.artifacts import saved_scores
from paddlex_ml.artifacts.leaderboard import (
    Leaderboard,
    OtherRun,
    RankedConfiguration,
    RankedConfigurations,
    RankedList,
    RankedRun,
    Standing,
    Verdict,
)
from paddlex_ml.engines.leaderboard.collect import FoundRun
from paddlex_ml.metrics import significance
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.progress import named
from paddlex_ml.wording import literal_path

_SEED = 42
"""Of the bootstrap: the same runs have the same table."""

_LONGEST = 80
"""Letters of an option that are shown: a list may have a number for each class."""
_NO_LIST = "it began with release 0.1.0, which does not tell on which val.txt it was scored"


class _Compared:
    """The runs of one list, the best first, and how their scores vary with the images."""

    def __init__(self, runs: Sequence[FoundRun]) -> None:
        self.runs = sorted(runs, key=lambda run: (-_map(run), run.name))
        self.values = np.array([_map(run) for run in self.runs])
        names = next((run.summary.note.label_names for run in self.runs if run.summary), [])
        summaries = [
            run.summary if run.summary and run.summary.note.label_names == names else None
            for run in self.runs
        ]
        cells = sum(len(each.influence) * len(each.average_precision) for each in summaries if each)
        self.rounds = significance.choose_rounds(cells)
        images = {len(each.influence) for each in summaries if each}
        self.images = next(iter(images)) if len(images) == 1 else None
        self.influences = np.full((len(self.runs), self.images or 0), np.nan)
        """[K, N]; NaN for a run without scores."""
        self.variation = self.influences
        """mAP of the rounds [K, R], or the influences."""
        if self.images is None:
            return
        if self.rounds:
            self.variation = np.full((len(self.runs), self.rounds), np.nan)
        for row, (run, summary) in enumerate(zip(self.runs, summaries, strict=True)):
            if summary is None or run.scores is None:
                continue
            self.influences[row] = summary.influence
            if self.rounds:
                self.variation[row] = significance.resample_map(
                    *saved_scores.read_table(run.scores),
                    rounds=self.rounds,
                    seed=_SEED,
                    noise=NOISE,
                )

    def errors(self, groups: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """How differences between means over groups vary with the images: errors, and their degrees
        of freedom, [G, G] each. NaN where a run of the group has no scores.
        """
        means, slopes = (
            np.array([table[list(rows)].mean(axis=0) for rows in groups])
            for table in (self.variation, self.influences)
        )
        known = np.isfinite(slopes).any(axis=1)
        errors, freedom = np.full((2, len(groups), len(groups)), np.nan)
        if known.any():
            cells = np.ix_(known, known)
            errors[cells] = significance.errors_of_influences(slopes[known])
            if self.rounds:  # both estimate the same: the larger one is the careful choice
                of_rounds = significance.errors_of_rounds(means[known])
                errors[cells] = np.fmax(errors[cells], of_rounds)
            freedom[cells] = significance.freedom_of_influences(slopes[known])
        return errors, freedom


@named("comparing the runs")
def rank(found: Sequence[FoundRun]) -> Leaderboard:
    """The table of all runs. Never ranks runs that were scored on different lists."""
    finished = [run for run in found if _is_ranked(run)]
    by_list: dict[tuple[str, str], list[FoundRun]] = defaultdict(list)
    for run in finished:
        by_list[run.digests].append(run)
    compared = {digests: _Compared(runs) for digests, runs in by_list.items()}
    keys = sorted({key for run in finished for key in run.options})
    options = [key for key in keys if len({run.options.get(key, "") for run in finished}) > 1]
    largest_first = sorted(compared.items(), key=lambda item: (-len(item[1].runs), item[0]))
    return Leaderboard(
        lists=[_rank_list(digests[1], each, options) for digests, each in largest_first],
        configurations=_rank_configurations(finished, compared, options),
        others=[
            OtherRun(name=run.name, path=str(run.files.output), problem=run.problem or _NO_LIST)
            for run in found
            if not _is_ranked(run)
        ],
        options=options,
    )


def _is_ranked(run: FoundRun) -> bool:
    return run.trained is not None and bool(run.digests[1])


def _rank_list(digest: str, compared: _Compared, options: Sequence[str]) -> RankedList:
    runs, values = compared.runs, compared.values
    errors = compared.errors([[row] for row in range(len(runs))])
    standings = _stand(values, significance.compare_all(values, *errors)[0])
    names = next((run.summary.note.label_names for run in runs if run.summary), [])
    return RankedList(
        digest=digest,
        images=compared.images,
        label_names=names,
        runs=[_describe(*each, options, names) for each in zip(runs, standings, strict=True)],
        rounds=compared.rounds,
    )


def _stand(values: np.ndarray, p_values: np.ndarray) -> list[Standing]:
    """Where each value stands against the first, which is the highest."""
    standings = []
    for number, (value, p_value) in enumerate(zip(values.tolist(), p_values.tolist(), strict=True)):
        is_known = not math.isnan(p_value)
        holds: Verdict = "worse" if p_value < significance.LEVEL else "equal"
        standings.append(
            Standing(
                rank=number + 1,
                verdict="best" if number == 0 else holds if is_known else "unknown",
                difference=value - float(values[0]),
                p_value=p_value if is_known and number else None,
            )
        )
    return standings


def _describe(
    run: FoundRun, standing: Standing, options: Sequence[str], label_names: Sequence[str]
) -> RankedRun:
    trained, files = run.trained, run.files
    assert trained is not None
    weights, evaluate = files.best_model.weights, ""
    if run.summary is None:
        config = systems.quote(literal_path(files.config_yaml))
        evaluate = f"{program.command()} -c {config} -o Global.mode=evaluate"
    per_class = [] if run.summary is None else run.summary.average_precision.tolist()
    per_class = per_class if len(per_class) == len(label_names) else []
    maps = [(row.epoch, row.raw_map, row.ema_map) for row in trained.history]
    return RankedRun(
        name=run.name,
        path=str(run.files.output),
        options=_show_options(run, options),
        seed=run.seed,
        fold=run.fold,
        map=trained.best_map,
        interval=trained.interval,
        weights=trained.weights,
        epoch=trained.epoch,
        epochs=trained.epochs,
        seconds=trained.seconds,
        memory_mib=trained.memory_mib,
        model_bytes=weights.stat().st_size if weights.is_file() else None,
        latency=run.latency,
        history=[(epoch, max(raw, ema or 0.0)) for epoch, raw, ema in maps if raw is not None],
        per_class=[None if math.isnan(each) else each for each in per_class],
        standing=standing,
        evaluate=evaluate,
    )


def _show_options(run: FoundRun, options: Sequence[str]) -> dict[str, str]:
    texts = {key: run.options.get(key, "") for key in options}
    return {k: t if len(t) <= _LONGEST else f"{t[:_LONGEST]}..." for k, t in texts.items()}


def _rank_configurations(
    runs: Sequence[FoundRun],
    compared: Mapping[tuple[str, str], _Compared],
    options: Sequence[str],
) -> list[RankedConfigurations]:
    """Configurations that were scored on the same lists, if one of them has several runs.

    A training that was repeated with its seed, and gave the same mAP, counts once.
    """
    groups: dict[tuple[tuple[str, str], ...], list[FoundRun]] = defaultdict(list)
    seen = set()
    for run in runs:  # only folds of one data set are put together
        own_list = () if run.fold else (run.digests,)
        key = (*sorted(run.options.items()), *own_list)
        own = (key, run.seed, run.digests, _map(run))
        if own not in seen:
            groups[key].append(run)
        seen.add(own)
    by_lists: dict[tuple[tuple[str, str], ...], list[list[FoundRun]]] = defaultdict(list)
    for group in groups.values():
        by_lists[tuple(sorted({run.digests for run in group}))].append(group)
    ranked = []
    for lists, members in by_lists.items():
        if all(len(group) == 1 for group in members):
            continue
        means = {id(group): float(_mean_of_lists(group, lists).mean()) for group in members}
        members.sort(key=lambda group: (-means[id(group)], group[0].name))
        values = np.array([means[id(group)] for group in members])
        p_values = _compare_configurations(members, lists, compared, values)
        standings = _stand(values, p_values)
        ranked.append(
            RankedConfigurations(
                digests=[digest for _, digest in lists],
                configurations=[
                    _sum_up(group, standing, options, means[id(group)])
                    for group, standing in zip(members, standings, strict=True)
                ],
            )
        )
    return sorted(ranked, key=lambda each: -len(each.configurations))


def _mean_of_lists(group: Sequence[FoundRun], lists: Sequence[tuple[str, str]]) -> np.ndarray:
    """Mean mAP of the group's runs on each list."""
    return np.array([np.mean([_map(run) for run in group if run.digests == key]) for key in lists])


def _compare_configurations(
    groups: Sequence[Sequence[FoundRun]],
    lists: Sequence[tuple[str, str]],
    compared: Mapping[tuple[str, str], _Compared],
    values: np.ndarray,
) -> np.ndarray:
    """Corrected p-values against the first configuration, [G]."""
    if len(lists) > 1:
        table = np.array([_mean_of_lists(group, lists) for group in groups])
        errors, freedom = significance.errors_of_folds(table)
    else:
        one = compared[lists[0]]
        position = {id(run): row for row, run in enumerate(one.runs)}
        rows = [[position[id(run)] for run in group] for group in groups]
        repeats = [one.values[each] for each in rows]
        errors, freedom = significance.add_spread(*one.errors(rows), repeats)
    found: np.ndarray = significance.compare_all(values, errors, freedom)[0]
    return found


def _sum_up(
    group: Sequence[FoundRun], standing: Standing, options: Sequence[str], mean: float
) -> RankedConfiguration:
    values = [_map(run) for run in group]
    return RankedConfiguration(
        options=_show_options(group[0], options),
        runs=[run.name for run in group],
        seeds=len({run.seed for run in group}),
        folds=len({run.digests for run in group}),
        mean=mean,
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        standing=standing,
    )


def _map(run: FoundRun) -> float:
    assert run.trained is not None
    return run.trained.best_map
