"""stdout is for results: what libraries print, native code's prints included, goes to stderr."""

import os
import sys


def claim_stdout() -> None:
    """Point file descriptor 1 at stderr and `sys.stdout` at the real stdout's copy, a line at a time.

    Call it before the heavy imports: gptqmodel and Trainer print as soon as they are loaded.
    """
    results = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(results, "w", buffering=1, encoding="utf-8")
