"""Standard input as lines that are read ahead in order, standard output as whole result lines and nothing else.

    stdin --> a thread that takes lines --> threads that read images --> batches of memes, in the lines' order

At most `ahead` images are on their way at once, so memory does not grow with the number of lines.
"""

import codecs
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from detector.meme import Meme

if TYPE_CHECKING:
    from detector.reader import Reader

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


def write_whole(descriptor: int, content: bytes) -> None:
    """Write all of it; raises BrokenPipeError where the reader is gone."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


class ReadAhead:
    """Reads the images of stdin's lines while others are scored: bounded, in order, and stoppable by a signal."""

    def __init__(self, workers: int, ahead: int):
        self.stopped = False  # before the end of the lines
        self._ended = False
        self._memes: queue.SimpleQueue[Future[Meme] | None] = queue.SimpleQueue()
        # One entry for each image that may still be taken. No semaphore: stop() may come, as a signal, in the middle of
        # any line of the main thread, and would wait for ever for a lock that this thread holds; SimpleQueue has none.
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._make_room(ahead)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="reader")

    def start(self, reader: "Reader", descriptor: int = 0) -> None:
        """Take lines from now on."""
        threading.Thread(target=self._take_lines, args=(reader, descriptor), name="stdin", daemon=True).start()

    def _take_lines(self, reader: "Reader", descriptor: int) -> None:
        for line in read_lines(descriptor):
            self._room.get()
            if self._ended:
                break
            try:
                self._memes.put(self._pool.submit(reader.read, line_to_path(line)))
            except RuntimeError:  # closed in the meantime
                break
        self._memes.put(None)

    def stop(self, *_: object) -> None:
        """Take no further line; a signal handler, too."""
        self.stopped = self._ended = True
        self._make_room(1)
        self._memes.put(None)

    def batches(self, batch_size: int, max_wait_seconds: float) -> Iterator[list[Meme]]:
        """Read memes, as many as there are, at most `max_wait_seconds` after the first line of each batch."""
        while not self._ended:
            first = self._memes.get()
            if first is None:
                break
            batch, deadline = [first], time.monotonic() + max_wait_seconds
            while len(batch) < batch_size and not self._ended:
                try:
                    read = self._memes.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if read is None:
                    self._ended = True
                else:
                    batch.append(read)
            yield [future.result() for future in batch]
            self._make_room(len(batch))

    def _make_room(self, images: int) -> None:
        for _ in range(images):
            self._room.put(None)

    def close(self) -> None:
        """Drop what nobody waits for and end the threads."""
        self._ended = True
        self._make_room(1)
        self._pool.shutdown(wait=True, cancel_futures=True)


def read_lines(descriptor: int = 0) -> Iterator[bytes]:
    """Lines as they come, without their line end, each cut to MAX_LINE_BYTES + 1; a last line needs no newline."""
    held = bytearray()
    for chunk in _bytes_of_utf16(_chunks(descriptor)):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield _whole_line(held, piece)
            held.clear()
        _hold(held, rest)
    if held:
        yield _whole_line(held, b"")


def _chunks(descriptor: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            yield chunk
    except OSError:  # a closed standard input has no lines
        return


def _bytes_of_utf16(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, in UTF-8 where they are UTF-16, as PowerShell writes lists; no path begins so, since none holds NUL."""
    first = next(chunks, b"")
    whole = chain([first], chunks)
    if first[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or 0 not in first[2:4] or b"\n" in first[2:4]:
        return whole
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    return (decoder.decode(chunk).encode() for chunk in whole)


def _whole_line(held: bytearray, piece: bytes) -> bytes:
    _hold(held, piece)
    return bytes(held).removesuffix(b"\r")


def _hold(held: bytearray, piece: bytes) -> None:
    room = MAX_LINE_BYTES + 1 - len(held)
    if room > 0:
        held += piece[:room]


def line_to_path(line: bytes) -> str:
    """A file name is bytes: what is not UTF-8 is kept by surrogate escapes and finds the same file again.

    A byte order mark belongs to no name; lists that were put together have several.
    """
    return "" if len(line) > MAX_LINE_BYTES else os.fsdecode(line.removeprefix(codecs.BOM_UTF8))
