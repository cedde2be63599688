# SPDX-License-Identifier: Apache-2.0
"""Run paddlex_ml as a module: python -m paddlex_ml --help."""

import sys

from paddlex_ml.cli import main

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(main())
