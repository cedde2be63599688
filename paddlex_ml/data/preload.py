# SPDX-License-Identifier: Apache-2.0
"""Imported by the process that workers are forked from, once: it loads the compiled loops.

Loading takes a second, and each worker inherits it. No OpenCV here: a fork must find no threads.
"""

import signal

from paddlex_ml.kernels import pillow

# What the server does with Ctrl-C its workers do from their first instant, before `worker.begin`.
signal.signal(signal.SIGINT, signal.SIG_IGN)
pillow.load()
