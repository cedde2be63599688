# SPDX-License-Identifier: Apache-2.0
"""Images that are not where a line of a list says: where they most likely are, or what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.image_finder import Guess, ImageFinder, ImageProblem

REPAIR = "-o CheckDataset.repair.enable=true"
"""What mode check_dataset needs to write the paths as the images are found."""
EXACT = ("by its absolute path", "with / instead of \\")
"""How an image is found beyond doubt."""
_AROUND = " \u3000\xa0'\""  # spaces, also those of Chinese text, and quotes around a path


def leave_out(kind: str) -> str:
    """What mode check_dataset needs to leave out lines of a kind."""
    return f"-o {systems.quote(f'CheckDataset.drop=[{kind}]')}"


def guess(finder: ImageFinder, path: str) -> Guess | ImageProblem | None:
    """The only image of the data set that `path`, which names none, may mean; None for none.

    Returns an ImageProblem where two images are equally likely.
    """
    is_absolute = os.path.isabs(path)
    if is_absolute or "\\" in path:
        found = finder.find(path, [""])
        if isinstance(found, str):
            return Guess(found, EXACT[0 if is_absolute else 1])
    bare = path.strip(_AROUND)
    return finder.guess(path, ()) or (finder.guess(bare, ()) if bare != path else None)


def explain(
    root: Path, path: str, where: str, found: Guess | ImageProblem | None, is_outside: bool
) -> DatasetFault:
    """The fault of a line; `found` is the guess, `is_outside` whether the path leaves the set."""
    if isinstance(found, ImageProblem):
        if found.kind != "image ambiguous":
            return DatasetFault(found.kind, where, found.text, found.fix)
        fix = f"{found.fix}, or leave such lines out: {leave_out('missing')}"
        return DatasetFault(found.kind, where, f"{path} does not exist: {found.text}", fix)
    kind, text = "image missing", f"{path} does not exist"
    fix = f"restore the image, or leave such lines out: {leave_out('missing')}"
    if os.path.islink(os.path.join(root, path)):
        text = f"{path} is a dangling link: {os.readlink(os.path.join(root, path))} does not exist"
    if is_outside:
        kind, text = "path outside the data set", f"{path} lies outside the data set"
        fix = "move the image into the data set folder and write its path relative to it"
        if not os.path.isfile(root / path):
            fix += f", or leave such lines out: {leave_out('missing')}"
    if found is not None:
        text = f"{text}, but {found.path} is found {found.how}"
        fix = f"{REPAIR} (it writes the paths as the images are found)"
    return DatasetFault(kind, where, text, fix)
