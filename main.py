# SPDX-License-Identifier: Apache-2.0
"""Run paddlex_ml from a clone: python main.py --help."""

from paddlex_ml.__main__ import run

if __name__ == "__main__":  # worker processes import this file again
    run()
