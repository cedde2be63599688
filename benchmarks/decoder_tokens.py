# SPDX-License-Identifier: Apache-2.0
"""CLIP with the head on the first patch, and on all patches: mAP and where the gradient comes from.

    python benchmarks/decoder_tokens.py --data DIR --work DIR [--size 96] [--epochs 4] [--jobs 2]

DIR of --data holds the data set natural_scenes (MLClsDataset). Training starts from random weights
with the shipped YAML. Runs that are complete in --work are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MODEL = "CLIP_vit_base_patch16_448_ML"


def main() -> int:
    """Train and measure both and print a Markdown table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_results")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    options = parser.parse_args()
    from paddlex_ml.models.clip_vit import TOKENS

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda tokens: _train(tokens, options), TOKENS))
    print(f"{options.size} px, {options.epochs} epochs, best mAP of raw and EMA weights\n")
    print("| Train.decoder_tokens | mAP | constant | gradient from the first patch's pixels |")
    print("|---|---|---|---|")
    for tokens in TOKENS:
        best, constant = _scores(options.work / f"clip-{tokens}")
        share = _share_of_the_first_patch(tokens, options.size)
        print(f"| {tokens} | {best:.4f} | {constant:.4f} | {100 * share:.1f} % |")
    return 0


def _train(tokens: str, options: argparse.Namespace) -> None:
    output = options.work / f"clip-{tokens}"
    if (output / "train_result.json").is_file():
        return
    keys = {
        "Global.mode": "train",
        "Global.dataset_dir": options.data / "natural_scenes",
        "Global.output": output,
        "Train.pretrain_weight_path": "null",
        "Train.decoder_tokens": tokens,
        "Train.image_size": options.size,
        "Train.epochs_iters": options.epochs,
        "Train.save_interval": options.epochs,
    }
    words = [word for key, value in keys.items() for word in ("-o", f"{key}={value}")]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if options.jobs > 1 else {}
    subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "-c", MODEL, *words],
        env={**os.environ, **threads},
        stderr=subprocess.DEVNULL,
        check=True,
    )


def _scores(output: Path) -> tuple[float, float]:
    """Best mAP of the run, and that of a constant predictor on its validation list."""
    result = json.loads((output / "train_result.json").read_text(encoding="utf-8"))
    import yaml

    from paddlex_ml.data import annotation
    from paddlex_ml.metrics.average_precision import constant_predictor_map

    config = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))
    targets = annotation.read(Path(config["Global"]["dataset_dir"])).val.targets
    return result["models"]["best"]["score"], constant_predictor_map(targets)


def _share_of_the_first_patch(tokens: str, size: int) -> float:
    """Share of the squared gradient of the loss, by pixels, that lies in the top left patch."""
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    import paddle

    from paddlex_ml.models import zoo
    from paddlex_ml.models.clip_vit import PATCH
    from paddlex_ml.training.losses import asymmetric_loss

    paddle.seed(0)
    model = zoo.build(MODEL, 5, tokens=tokens)
    model.eval()
    images = paddle.randn([4, 3, size, size])
    images.stop_gradient = False
    asymmetric_loss(model(images), paddle.ones([4, 5])).backward()
    assert images.grad is not None
    energy = images.grad.square()
    return float(energy[:, :, :PATCH, :PATCH].sum() / energy.sum())


if __name__ == "__main__":
    sys.exit(main())
