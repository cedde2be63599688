# SPDX-License-Identifier: Apache-2.0
"""Updates of weights after a step's gradients: AdamW and averages, on the CPU in one pass each.

As in `layers`: Paddle's own operators are used unless the kernels apply, which need float32, the
CPU and numba. The speed of memory limits both; Paddle's AdamW is limited by its arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import paddle

from paddlex_ml.kernels import layers

FEW = 2**15
"""Tensors with fewer numbers are done before another thread has begun."""


class FastAdamW(paddle.optimizer.AdamW):
    """Paddle's AdamW, with the same state, that updates a parameter by our kernel where it can."""

    def _append_optimize_op(self, block: Any, param_and_grad: Any) -> Any:
        parameter, gradient = param_and_grad
        decays = self._apply_decay_param_fun
        if decays is None or self._amsgrad or self._lr_ratio or not _applies(parameter, gradient):
            return super()._append_optimize_op(block, param_and_grad)
        moment1, moment2, power1, power2 = (
            self._get_accumulator(name, parameter)
            for name in (
                self._moment1_acc_str,
                self._moment2_acc_str,
                self._beta1_pow_acc_str,
                self._beta2_pow_acc_str,
            )
        )
        powers = layers._view(power1), layers._view(power2)  # beta ** number of this update
        rate = self.get_lr() * parameter.optimize_attr["learning_rate"]
        beta1, beta2 = np.float32(self._beta1), np.float32(self._beta2)
        correction = math.sqrt(1 - powers[1][0])
        factors = (
            *(beta1, 1 - beta1, beta2, 1 - beta2),  # in float32, as Paddle
            1 - rate * self._weight_decay if decays(parameter.name) else 1,
            rate * correction / (1 - powers[0][0]),
            self._epsilon * correction,
        )
        arrays = (layers._flat(tensor) for tensor in (parameter, gradient, moment1, moment2))
        _run("adamw", *arrays, np.array(factors, np.float32))
        for power, beta in zip(powers, (beta1, beta2), strict=True):
            power *= beta
        return None


def average(averages: paddle.Tensor, values: paddle.Tensor, share: paddle.Tensor) -> None:
    """Move each of `averages` by `share` (float32, []) of the way to its value, in place."""
    if _applies(averages, values):
        _run("average", layers._flat(averages), layers._flat(values), layers._view(share)[()])
    else:
        averages.lerp_(values.astype("float32"), share)


def _applies(changed: paddle.Tensor, read: paddle.Tensor) -> bool:
    return (
        changed.dtype == paddle.float32 == read.dtype
        and paddle.in_dynamic_mode()
        and all(each.is_dense() and each.place.is_cpu_place() for each in (changed, read))
        and changed.is_contiguous()
        and layers.kernels("updates") is not None
    )


def _run(name: str, changed: np.ndarray[Any, Any], *arguments: Any) -> None:
    """Run the kernel `name` on all numbers of `changed`."""
    count = len(changed)
    if count < FEW:
        getattr(layers.kernels("updates"), name)(changed, *arguments, 0, count)
    else:
        layers._run_in_threads("updates", name, count, None, changed, *arguments)
