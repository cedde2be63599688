# SPDX-License-Identifier: Apache-2.0
"""A static model published as a tar archive -> its folder in the cache.

Only the files called inference.* are taken out of the archive, each by its bare name; see
`storage.archives` for what makes an archive unusable.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath

from paddlex_ml.artifacts.run_folder import GRAPH, INFERENCE_YML, PARAMETERS, PROGRAM
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import archives, cache, fetch, file_state, folders, regular_file
from paddlex_ml.wording import count

_RECORD_LIMIT = 10_000  # bytes: the state of a file has less than 100
SIZE_LIMIT = 4 * 2**30  # bytes, unpacked; the largest published model has 0.4


def fetch_folder(url: str, *, fix: str) -> Path:
    """Folder with the static model of the archive behind `url`, fetched unless the cache has it.

    `fix` is what can be done without it. Raises PaddlexMLError for all that goes wrong.
    """
    archive = fetch.cached(url, check=_unpack, fix=fix)
    folder = cache.beside(archive, ".unpacked")
    if _is_of(folder, archive):
        return folder
    with cache.locked(folder):
        if not _is_of(folder, archive):  # another process may have unpacked it meanwhile
            shutil.rmtree(cache.beside(folder, ".new"), ignore_errors=True)  # of version 0.1.0
            with folders.replacing(folder, lambda _: True) as fresh:
                state = file_state.describe(archive)
                _unpack(archive, fresh)
            _record(folder).write_text(state, encoding="utf-8")  # half of it is no state at all
    return folder


def _is_of(folder: Path, archive: Path) -> bool:
    """Whether `folder` was unpacked from this very archive: a user may put another one there."""
    with suppress(OSError, UnicodeDecodeError):
        described = regular_file.read(_record(folder), _RECORD_LIMIT).decode("utf-8")
        return folder.is_dir() and described == file_state.describe(archive)
    return False


def _record(folder: Path) -> Path:
    """The file that holds the state of the archive that `folder` was unpacked from."""
    return cache.beside(folder, ".from")


def _unpack(archive: Path, target: Path | None = None) -> None:
    """Unpack the static model into `target`, or only check the archive where there is none.

    Raises PaddlexMLError unless the archive is sound, harmless, and holds one static model.
    """
    opened = archives.opened(archive, allow_zip=False, size_limit=SIZE_LIMIT)
    with opened as (members, open_member):
        paths = {PurePosixPath(member.name): member for member in members}
        parents = [path.parent for path in paths if path.name == INFERENCE_YML]
        model = {
            path.name: member
            for path, member in paths.items()
            if path.parent in parents and path.name.startswith("inference")
        }
        if len(parents) != 1:
            reason = f"it holds {count(len(parents), 'file')} {INFERENCE_YML} instead of one"
        elif PARAMETERS not in model or not model.keys() & {GRAPH, PROGRAM}:
            reason = f"it holds only {', '.join(sorted(model))}"
        else:
            if target is not None:
                archives.unpack_members(list(model.values()), open_member, archive, target)
            return
    raise PaddlexMLError(
        f"not usable as a static model: {reason}",
        where=str(archive),
        fix="name the tar archive of a model as PaddleX publishes it",
    )
