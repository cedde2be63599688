# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of peer_speed.py and gpu_speed.py, which start it; it needs torch and timm alone.

The step has the same parts as ours: forward, asymmetric loss, backward, the check that the loss is
finite, AdamW, averaged weights. Every part is the fastest that PyTorch offers without a change of
the result: fused attention, fused AdamW, one call for all averages, channels_last; on GPUs also
TF32, as in Paddle, convolutions chosen by a trial, and gradients exchanged within the backward pass
(DistributedDataParallel).
"""

from __future__ import annotations

import importlib
import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

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


def build_step(task: Task, network: nn.Module, device: torch.device) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    batch = task.batch // task.processes
    images = torch.randn(batch, 3, task.size, task.size, device=device)
    if task.channels_last:
        images = images.to(memory_format=torch.channels_last)
    targets = (torch.rand(batch, task.classes, device=device) < 0.1).float()
    scaler = torch.amp.GradScaler(device.type, enabled=task.amp == "float16")
    amp_dtype = getattr(torch, task.amp) if task.amp else None
    learning = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    values = [v.detach() for v in network.state_dict().values() if v.is_floating_point()]
    averages = [value.clone() for value in values]

    parallel: nn.Module = network
    if task.processes > 1:
        own = None if device.type == "cpu" else [device.index]
        parallel = DistributedDataParallel(network, device_ids=own)

    def forward(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, amp_dtype, enabled=amp_dtype is not None):
            logits = parallel(images)
        return asymmetric_loss(logits.float(), targets)

    compute = torch.compile(forward) if task.compiled else forward

    def step() -> float:
        begin = time.perf_counter()
        loss = compute(images, targets)
        scaler.scale(loss).backward()
        if not math.isfinite(loss.item()):
            raise RuntimeError("the loss is not finite")
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        torch._foreach_lerp_(averages, values, 1 - EMA_DECAY)
        if device.type == "cuda":  # the update may still run there
            torch.cuda.synchronize(device)
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


def train(rank: int, address: str, task: Task) -> None:
    """Train in one of the processes of the task, number `rank`, at the socket `address`."""
    torch.set_num_threads(task.threads // task.processes)
    torch.manual_seed(0)
    device = torch.device("cpu") if task.device == "cpu" else torch.device("cuda", rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if task.processes > 1:
        backend = "gloo" if task.device == "cpu" else "nccl"
        dist.init_process_group(backend, rank=rank, world_size=task.processes)
    network = Network(task).train().to(device)
    if task.channels_last:
        network = network.to(memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in network.parameters())
    timm_version = _import_timm().__version__
    software = f"PyTorch {torch.__version__}, timm {timm_version}"
    if device.type == "cuda":
        software += f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    step = build_step(task, network, device)
    serve(address, Facts(parameters, software), step, task.steps)


def main() -> int:
    """Train as the second argument says, at the socket that the first one names."""
    address, task = sys.argv[1], Task(**json.loads(sys.argv[2]))
    if task.processes == 1:
        train(0, address, task)
        return 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.multiprocessing.spawn(train, (address, task), task.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
