"""Standard input as lines of bytes, standard output as whole result lines and nothing else."""

import os
import select
import sys
from collections.abc import Iterator

# A longer line cannot be a path (Linux: 4,096 bytes); what is beyond is read and dropped, so memory stays flat.
MAX_LINE_BYTES = 16_384
_CHUNK_BYTES = 65_536


def take_stdout() -> int:
    """A private copy of file descriptor 1, which itself then leads to stderr, native code's prints included.

    Raises OSError where the process was started without a standard output.
    """
    sys.stdout.flush()
    results = os.dup(1)
    os.set_inheritable(results, False)
    os.dup2(2, 1)
    return results


def read_lines(descriptor: int = 0, wake_descriptor: int | None = None) -> Iterator[bytes]:
    """Lines as they come, without their line end, each cut to MAX_LINE_BYTES + 1; a last line needs no newline.

    Reading `wake_descriptor` (the other end of a pipe that was closed or written to) ends the iteration.
    """
    held = bytearray()
    while chunk := _next_chunk(descriptor, wake_descriptor):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield _whole_line(held, piece)
            held.clear()
        _hold(held, rest)
    if held:
        yield _whole_line(held, b"")


def _next_chunk(descriptor: int, wake_descriptor: int | None) -> bytes:
    if wake_descriptor is not None:
        ready, _, _ = select.select([descriptor, wake_descriptor], [], [])
        if wake_descriptor in ready:
            return b""
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError:  # a closed standard input has no lines
        return b""


def _whole_line(held: bytearray, piece: bytes) -> bytes:
    _hold(held, piece)
    return bytes(held).removesuffix(b"\r")


def _hold(held: bytearray, piece: bytes) -> None:
    room = MAX_LINE_BYTES + 1 - len(held)
    if room > 0:
        held += piece[:room]


def line_to_path(line: bytes) -> str:
    """A file name is bytes: what is not UTF-8 is kept by surrogate escapes and finds the same file again."""
    return "" if len(line) > MAX_LINE_BYTES else os.fsdecode(line)


def result_line(probability: float, threshold: float) -> bytes:
    """`"%.4f\\t%d\\n"`; the label follows the printed number, so that a reader can recompute it."""
    printed = f"{probability:.4f}"
    return f"{printed}\t{int(float(printed) >= threshold)}\n".encode()


def write_whole(descriptor: int, content: bytes) -> None:
    """Write all of it; raises BrokenPipeError where the reader is gone."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
