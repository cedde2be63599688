# SPDX-License-Identifier: Apache-2.0
"""Imported by the process that workers are forked from, once: it loads the compiled loops.

Loading takes a second, and each worker inherits it. No OpenCV here: a fork must find no threads.
"""

from paddlex_ml.data import kernels

kernels.load()
