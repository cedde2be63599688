# SPDX-License-Identifier: Apache-2.0
"""How far the numbers of mode benchmark repeat: the mode, some times, on one trained run.

    python benchmarks/benchmark_repeats.py --config output/config.yaml [--times 2]

Each number is divided by that of the reference (the first row of the table) in the same run of the
mode; printed is the largest of these ratios by the smallest, less one, in percent. At the end: the
seconds that each run took. Nothing else should run on the machine. The results of the mode replace
those of the folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the mode, compare, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="config.yaml of a trained run")
    parser.add_argument("--times", type=int, default=2)
    options = parser.parse_args()
    found = [measure(options.config) for _ in range(options.times)]
    ratios = [relate(each) for each in found]
    if any(each.keys() != ratios[0].keys() for each in ratios):
        print("not the same exports were measured each time", file=sys.stderr)
        return 1
    columns = list(next(iter(ratios[0].values())))
    print(f"| export | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name in ratios[0]:
        spreads = [spread([each[name][column] for each in ratios]) for column in columns]
        print(f"| {name} | {' | '.join(f'{100 * value:.1f} %' for value in spreads)} |")
    print(f"\nseconds: {', '.join(str(round(each['seconds'])) for each in found)}")
    return 0


def measure(config: Path) -> Any:
    """Run the mode; its result."""
    command = [sys.executable, str(ROOT / "main.py"), "-c", str(config)]
    command += ["-o", "Global.mode=benchmark", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def relate(result: Any) -> dict[str, dict[str, float]]:
    """Export -> its numbers by those of the reference; without the reference itself."""
    rows = {f"{row['format']} by {row['run_mode']}": numbers(row) for row in result["rows"]}
    reference = rows.pop(result["reference"])
    return {name: {c: v / reference[c] for c, v in row.items()} for name, row in rows.items()}


def numbers(row: Any) -> dict[str, float]:
    """What the table of the mode shows, by column."""
    speeds = {each["batch_size"]: each["images_per_second"] for each in row["speeds"]}
    return {
        "load": row["load_seconds"],
        "first": row["first_answer_seconds"],
        "p50": row["latency_p50"],
        "p95": row["latency_p95"],
        "images/s (best batch)": max(speeds.values()),
        **{f"images/s ({size})": speed for size, speed in speeds.items() if size > 1},
    }


def spread(ratios: Sequence[float]) -> float:
    """How much the largest is above the smallest, as a share of it."""
    return max(ratios) / min(ratios) - 1


if __name__ == "__main__":
    sys.exit(main())
