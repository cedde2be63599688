# SPDX-License-Identifier: Apache-2.0
"""The output folder of a sweep: one run folder for each combination, and what they share.

<output>/
  sweep.json                   the runs, each with its overrides
  search.json  study.db        of a search: which study it belongs to; Optuna's study, if it is here
  sweep.sbatch                 of --emit slurm: an array job with a task for each run
  <name>/                      run folders: learning_rate=0.001,seed=1
  logs/<name>.txt              what each run has printed
  folds/fold_<k>_of_<K>/       data sets: lists of their own, links to the images
  out_of_fold/<name>/          scores of all images and doubtful labels, of all folds together
  leaderboard.csv  leaderboard.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from paddlex_ml.storage import files, regular_file

FORMAT_VERSION = 1
FOLD = re.compile(r"fold_(\d+)_of_(\d+)")
"""Name of the data set of a fold."""
_LARGEST = 10_000
"""Bytes of search.json: it has less than 500."""


class SweepFolder:
    """Every file and folder of a sweep."""

    def __init__(self, output: Path) -> None:
        self.output: Final = output
        self.sweep_json: Final = output / "sweep.json"
        self.search_json: Final = output / "search.json"
        self.slurm: Final = output / "sweep.sbatch"
        self.study_db: Final = output / "study.db"
        self.logs: Final = output / "logs"
        self.folds: Final = output / "folds"
        self.out_of_fold: Final = output / "out_of_fold"

    def fold(self, number: int, folds: int) -> Path:
        """The data set whose val.txt is fold `number`, counted from 1."""
        return self.folds / f"fold_{number}_of_{folds}"

    def log(self, name: str) -> Path:
        """What the run of this name has printed."""
        return self.logs / f"{name}.txt"


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One combination."""

    name: str
    """Of its run folder."""
    overrides: list[str]
    """Behind -o, after those of the sweep."""
    group: str
    """The same for the folds of one combination and seed; "" without folds."""


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of sweep.json."""

    format_version: int = FORMAT_VERSION
    command: list[str]
    """Without the combination: the words that all runs share."""
    runs: list[PlannedRun]


class SearchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of search.json: whose trials the runs of the folder are."""

    format_version: int = FORMAT_VERSION
    worker: str
    """A random name of this folder, which its trials have in the study."""
    study: str
    storage: str
    """Where the study is, without the secrets of a URL; "": study.db."""


def read_search(path: Path) -> SearchRecord | None:
    """Read search.json; None where there is none. Raises ValueError where it holds another thing,
    OSError where it cannot be read.
    """
    if not path.exists():
        return None
    return regular_file.decode_json(regular_file.read(path, _LARGEST), SearchRecord)


def is_one(folder: Path) -> bool:
    """Whether a sweep or a search has begun there."""
    found = SweepFolder(folder)
    return found.sweep_json.is_file() or found.search_json.is_file()


def write(path: Path, record: SweepRecord | SearchRecord) -> None:
    """Write sweep.json or search.json. Raises OSError as the system does."""
    files.write_json(path, msgspec.to_builtins(record))
