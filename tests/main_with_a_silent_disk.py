# SPDX-License-Identifier: Apache-2.0
"""small_main.py on a disk that does not answer for images which are named pipes."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):  # worker processes import this file, too
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests import small_main

    sys.meta_path.insert(0, small_main.SmallModels())
    from paddlex_ml.data import decode_header

    open_regular = decode_header._open_regular

    def wait(path: str | Path) -> tuple[int, int]:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            os.open(path, os.O_RDONLY)  # for ever: nobody writes
        return open_regular(path)

    decode_header._open_regular = wait

if __name__ == "__main__":
    from paddlex_ml.__main__ import run

    run()
