# SPDX-License-Identifier: Apache-2.0
"""How many pairs of images look alike, by distance of their hashes.

    python benchmarks/near_duplicate_distances.py DIR ... [--names]

All pairs of images of each folder: bits between their perceptual hashes, and how many of these
pairs have grey pictures that agree. The thresholds of data/near_duplicates.py were chosen by
looking at these pairs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.data.inspect_images import HASH_BYTES, inspect_images
from paddlex_ml.data.near_duplicates import AGREEMENT
from paddlex_ml.data.transforms import SUFFIXES

FURTHEST = 12  # bits


def main() -> int:
    """Print a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--names", action="store_true", help="print the pairs too")
    options = parser.parse_args()
    for folder in options.folder:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        names = [str(path.relative_to(folder)) for path in paths]
        prints = inspect_images(folder, names, lambda done, total: None, None)
        names = [name for name in names if prints[name].fingerprint]
        table = np.array([[*prints[name].fingerprint] for name in names], np.uint8)
        bits = np.unpackbits(table[:, :HASH_BYTES], axis=1).astype(np.float32)
        greys = table[:, HASH_BYTES:].astype(np.float64)
        greys -= greys.mean(axis=1, keepdims=True)
        greys /= np.linalg.norm(greys, axis=1, keepdims=True) + 1e-12
        first, second = np.triu_indices(len(names), 1)
        differing = bits @ (1 - bits.T)
        distance = (differing + differing.T)[first, second]
        agreement = (greys @ greys.T)[first, second]
        print(f"{folder.name}: {len(names):,} images; bits: pairs (of which agree)")
        for number in range(FURTHEST + 1):
            at = distance == number
            print(f"  {number:2}: {at.sum():4} ({(at & (agreement >= AGREEMENT)).sum()})")
            for pair in np.flatnonzero(at) if options.names else ():
                a, b = names[first[pair]], names[second[pair]]
                print(f"      {a} {b} {agreement[pair]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
