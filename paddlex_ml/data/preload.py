# SPDX-License-Identifier: Apache-2.0
"""Imported once by the server process that workers are forked from: it loads the compiled loops.

Loading takes a second, and each worker inherits it. OpenCV is imported, but no function of it is
called here, because the threads that it then starts would not survive the fork.
"""

import signal

from paddlex_ml import stop_signals
from paddlex_ml.kernels import pillow

# Workers inherit this: they ignore Ctrl-C and the like already before `worker.start` runs.
for number in set(stop_signals.ALL) - {signal.SIGTERM}:
    signal.signal(number, signal.SIG_IGN)
pillow.loops()
