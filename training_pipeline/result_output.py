"""stdout is for results: what libraries print, native code's prints included, goes to stderr."""

import os
import sys
from typing import TextIO


def claim_stdout() -> TextIO:
    """The real stdout, for results alone; from now on `sys.stdout` and file descriptor 1 are stderr.

    Call it before the heavy imports: gptqmodel and Trainer print as soon as they are loaded.
    """
    results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return results
