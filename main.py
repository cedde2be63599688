# SPDX-License-Identifier: Apache-2.0
"""Run paddlex_ml from a clone: python main.py --help."""

import sys

from paddlex_ml.cli import main

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(main())
