"""Networks that do what networks should not, while an engine converts them: importable by the process that tries them."""

import os
import signal
import tempfile
import time
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from provenet.engines.engine import build
from provenet.engines.ways import Way


@cache
def is_here(way: Way) -> bool:
    """Whether this processor has it: bfloat16 is not on all of them."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            build(way, Odd().eval(), torch.randn(2, 3, 4, 4), Path(folder))
        except RuntimeError as error:
            if "this processor has no" not in str(error):
                raise
            return False
    return True


class Odd(nn.Module):
    """Flattens and multiplies, and does something else where it is converted."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how
        self.fc = nn.Linear(48, 5)

    def extra_repr(self) -> str:
        """What is remembered of one is not of another."""
        return self.how

    def forward(self, images: Tensor) -> Tensor:
        logits = self.fc(images.flatten(1))
        if not torch.compiler.is_exporting():
            return logits
        if self.how == "crashes":
            os.kill(os.getpid(), signal.SIGFPE)
        if self.how == "hangs":
            time.sleep(100)
        if self.how == "refuses":
            raise ValueError("no such layer in that library")
        return 2 * logits if self.how == "lies" else logits


class Deaf(Odd):
    """Cannot be handed to another process."""

    def __reduce__(self):
        raise TypeError("stays where it is")
