# SPDX-License-Identifier: Apache-2.0
"""Run paddlex_ml as a module: python -m paddlex_ml --help."""

from typing import NoReturn

from paddlex_ml import stop_signals
from paddlex_ml.errors import Stopped


def run() -> NoReturn:
    """Run the command of this process, and end the process with its exit code."""
    try:
        from paddlex_ml.cli import main  # here: Ctrl-C may come while it is imported

        code = main()
    except KeyboardInterrupt:
        code = 130
    except Stopped as second:  # one that comes while the first is answered
        code = 128 + second.signal_number
    stop_signals.leave(code)


if __name__ == "__main__":  # worker processes import this file again
    run()
