# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of benchmarks/peer_speed.py, which starts it; it needs torch and timm alone.

The step has the same parts as ours: forward, asymmetric loss, backward, the check that the loss is
finite, AdamW, averaged weights. Every part is the fastest that PyTorch offers without a change of
the result: fused attention, fused AdamW, one call for all averages, channels_last.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.turns import Facts, Task, serve

RATE, WEIGHT_DECAY, EMA_DECAY = 1e-4, 1e-4, 0.9997
_LIBRARIES: list[torch.library.Library] = []  # a library forgets its names when it is deleted
WIDTH, HEADS, FEED_FORWARD, DROPOUT = 768, 8, 2048, 0.1


class MLDecoder(nn.Module):
    """Feature map [B, D, H, W] or tokens [B, T, D] -> logits [B, C], with a query per class."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(features, WIDTH)
        self.queries = nn.Parameter(torch.randn(classes, WIDTH), requires_grad=False)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.linear1 = nn.Linear(WIDTH, FEED_FORWARD)
        self.linear2 = nn.Linear(FEED_FORWARD, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)
        self.weight = nn.Parameter(torch.randn(classes, WIDTH) * WIDTH**-0.5)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits [B, C], before the sigmoid."""
        if features.ndim == 4:
            features = features.flatten(2).transpose(1, 2)  # [B, HW, D]
        tokens = F.relu(self.input_proj(features))  # [B, T, E]
        queries = self.queries.expand(len(tokens), -1, -1)  # [B, C, E]
        queries = self.norms[0](queries + self.dropout(queries))
        attended = self.attention(queries, tokens, tokens, need_weights=False)[0]
        queries = self.norms[1](queries + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(queries)))  # [B, C, 2048]
        decoded = self.norms[2](queries + self.dropout(self.linear2(hidden)))  # [B, C, E]
        return (decoded * self.weight).sum(-1) + self.bias


class Network(nn.Module):
    """Images [B, 3, S, S] -> logits [B, C]."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        timm = _import_timm()
        vit = task.peer.startswith("vit")
        # As ours, it resizes the position embedding of 224 px in every step.
        options = {"dynamic_img_size": True} if vit else {}
        self.backbone = timm.create_model(
            task.peer, pretrained=False, num_classes=0, global_pool="", **options
        )
        self.first = 1 if vit else 0  # without the class token
        self.dropout = nn.Dropout(task.dropout)
        width = 768 if vit else self.backbone.head_hidden_size
        self.head = MLDecoder(width, task.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, C]."""
        features = self.backbone(images)
        if self.first:
            features = features[:, self.first :]
        return self.head(self.dropout(features))


def asymmetric_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum over batch and classes, gamma_neg 4, gamma_pos 0, clip 0.05 (arXiv:2009.14119)."""
    present = torch.sigmoid(logits)
    absent = (1 - present + 0.05).clamp(max=1.0)
    log_right = targets * F.logsigmoid(logits) + (1 - targets) * absent.clamp(min=1e-8).log()
    weight = (targets + (1 - targets) * (1 - absent.detach()) ** 4).detach()
    return -(weight * log_right).sum()


def build_step(task: Task, network: nn.Module) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    images = torch.randn(task.batch, 3, task.size, task.size)
    if task.channels_last:
        images = images.to(memory_format=torch.channels_last)
    targets = (torch.rand(task.batch, task.classes) < 0.1).float()
    learning = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    values = [v.detach() for v in network.state_dict().values() if v.is_floating_point()]
    averages = [value.clone() for value in values]

    def forward(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return asymmetric_loss(network(images), targets)

    compute = torch.compile(forward) if task.compiled else forward

    def step() -> float:
        begin = time.perf_counter()
        loss = compute(images, targets)
        loss.backward()
        if not math.isfinite(loss.item()):
            raise RuntimeError("the loss is not finite")
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(averages, values, 1 - EMA_DECAY)
        return time.perf_counter() - begin

    return step


def _import_timm() -> ModuleType:
    """Import timm, also beside a torchvision that was built for another build of torch.

    timm needs torchvision for picture transforms. A build for GPUs beside a torch for CPUs lacks
    the operators of detection, which nothing here calls: only their names must be known.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    return importlib.import_module("timm")


def main() -> int:
    """Train as the second argument says, at the socket that the first one names."""
    task = Task(**json.loads(sys.argv[2]))
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    network = Network(task).train()
    if task.channels_last:
        network = network.to(memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in network.parameters())
    timm_version = _import_timm().__version__
    software = f"PyTorch {torch.__version__}, timm {timm_version}"
    serve(sys.argv[1], Facts(parameters, software), build_step(task, network))
    return 0


if __name__ == "__main__":
    sys.exit(main())
