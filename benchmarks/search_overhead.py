# SPDX-License-Identifier: Apache-2.0
"""What Optuna and its storage cost a search, besides the trainings.

    python benchmarks/search_overhead.py [--trials 200] [--epochs 20] [--storage URL]

Asks for each trial, reports the mAP of each epoch, and tells the end, as a search does, without any
training. Prints the seconds of a trial: in the first quarter, and in the last, where TPE chooses
from most of the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.engines.search import space
from paddlex_ml.engines.search.study import SearchStudy, StudyNote
from paddlex_ml.engines.sweep.grid import SearchRequest

SPACE = {
    "Train.learning_rate": ["1e-5..1e-2"],
    "Train.weight_decay": ["1e-6..1e-1"],
    "Train.batch_size": ["8..64"],
    "Train.loss.name": ["bce", "asymmetric"],
}


def main() -> None:
    """Run the trials, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--storage", help="URL or journal file; without it SQLite in a folder")
    options = parser.parse_args()
    name = None if options.storage is None else f"overhead {time.time()}"
    request = SearchRequest("tpe", options.trials, "asha", options.storage, name)
    with tempfile.TemporaryDirectory() as place:
        study = SearchStudy(request, space.parse(SPACE), Path(place, "study.db"), "w", 42)
        study.claim(StudyNote(space={}, options={}, data={}), "asha", 1)
        study.unfinished()
        took = []
        while True:
            began = time.monotonic()
            trial = study.ask()
            if trial is None:
                break
            study.own()
            score = 1 / (1 + abs(float(trial.texts["Train.learning_rate"]) - 1e-3))
            maps = [(epoch + 1, score * epoch / options.epochs) for epoch in range(options.epochs)]
            pruned = None
            for epoch in range(options.epochs):
                pruned = pruned or study.report(trial.number, maps[: epoch + 1])
            study.tell(trial.number, score, is_pruned=pruned is not None)
            took.append(time.monotonic() - began)
    part = max(1, len(took) // 4)
    for words, each in (("first", took[:part]), ("last", took[-part:])):
        print(f"{words} {part} trials: {sum(each) / part:.3f} s each, at most {max(each):.3f} s")


if __name__ == "__main__":
    main()
