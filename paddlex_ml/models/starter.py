# SPDX-License-Identifier: Apache-2.0
"""The starter weights: a backbone that the project itself trained, on images that it draws.

They come with the package, so that a training without a network need not begin with random weights.
benchmarks/starter_weights.py makes them; docs/models.md says what they bring.
"""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).with_name("starter.safetensors")
"""The entries of the backbone of `config.schema.STARTER_MODEL`, in half precision."""
