# SPDX-License-Identifier: Apache-2.0
"""Imported once by the server process that workers are forked from: it loads the compiled loops.

Loading takes a second, and each worker inherits it. OpenCV is imported, but no function of it is
called here, because the threads that it then starts would not survive the fork.
"""

import signal

from paddlex_ml.kernels import pillow

# Workers inherit this: they ignore Ctrl-C already before `worker.start` runs.
signal.signal(signal.SIGINT, signal.SIG_IGN)
pillow.loops()
