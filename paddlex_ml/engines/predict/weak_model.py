# SPDX-License-Identifier: Apache-2.0
"""What the evaluation of a model, or else its training, has said against it: told before it
predicts. The rules are those of the report (`report.advice`)."""

from __future__ import annotations

from pathlib import Path

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.report import advice, model_card
from paddlex_ml.report.figures import Figures
from paddlex_ml.safe_text import one_line
from paddlex_ml.wording import count, first_names

_REPAIR = "more epochs, more images or weights to start from (Train.pretrain_weight_path) help"


def describe(folder: Path, made_by: RunIdentity | None) -> str | None:
    """One line about the model in a folder that a training has exported, or None.

    made_by: the run that the model names; results of another one say nothing about it.
    """
    best = Path(folder).absolute().parent
    files = RunFolder(best.parent)
    if made_by is None or best != files.best_model.folder:
        return None
    trained = model_card.read_training(files.result("train"))
    evaluated = model_card.read_evaluation(files, made_by.id, trained)
    if evaluated is None:
        is_own = trained is not None and trained.run is not None and trained.run.id == made_by.id
        if trained is None or not is_own or trained.metrics.better_than_guessing is not False:
            return None
        return _say_guessing("training", trained.models.best.score, trained.metrics.constant_map)
    metrics = evaluated.metrics
    if evaluated.better_than_guessing is False:
        return _say_guessing("evaluation", metrics.MultiLabelMAP, metrics.constant_predictor)
    figures = Figures(evaluated, [row.name for row in evaluated.per_class])
    if not (failed := advice.not_learnt(figures)):
        return None
    names, every = [figures.rows[i].name for i in failed], len(figures.worst_first())
    kinds = f"{len(failed):,} of {count(every, 'class', 'classes')}"
    if evaluated.report is not None:
        kinds += f" (see {files.output / evaluated.report})"
    return (
        f"this model has not learnt {kinds}, by its own evaluation: "
        f"{one_line(first_names(names, 5))}. Do not rely on these labels; {_REPAIR}"
    )


def _say_guessing(source: str, score: float | None, constant: float | None) -> str:
    numbers = ""
    if score is not None and constant is not None:
        numbers = f" (mAP {score:.4f}; the same scores for every image give {constant:.4f})"
    return (
        f"this model is not better than guessing, by its own {source}{numbers}: do not rely on its "
        f"labels; {_REPAIR}"
    )
