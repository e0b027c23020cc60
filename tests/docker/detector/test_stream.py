"""Lines of bytes in, images read ahead in order, nothing but results out."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.meme import Meme
from detector.stream import MAX_LINE_BYTES, ReadAhead, line_to_path, read_lines


def lines_of(content: bytes, tmp_path) -> list[bytes]:
    path = tmp_path / "stdin"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(read_lines(descriptor))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\n\na", [b"", b"", b"a"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\x00\n\xff", [b"\x00", b"\xff"]),
        (b"\r\n", [b""]),
    ],
)
def test_every_line_is_kept_once(content, expected, tmp_path):
    assert lines_of(content, tmp_path) == expected


def test_a_byte_order_mark_belongs_to_no_path(tmp_path):
    mark = b"\xef\xbb\xbf"
    lists = mark + b"/memes/a.png\r\n" + mark + b"caf\xe9.png\n/memes/a.png\n" + mark + b"\n"  # two lists and an end
    paths = [line_to_path(line) for line in lines_of(lists, tmp_path)]
    assert paths == ["/memes/a.png", "caf\udce9.png", "/memes/a.png", ""]


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
def test_a_list_that_powershell_wrote_has_the_same_paths(coding, tmp_path):
    """It writes UTF-16; so long a list comes in several chunks."""
    paths = ["C:\\memes\\a.png", "猫 🐱.png", *(f"/memes/{number:05}.png" for number in range(5000))]
    content = ("\ufeff" + "".join(f"{path}\r\n" for path in paths)).encode(coding)
    assert [line_to_path(line) for line in lines_of(content, tmp_path)] == paths


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\xff\xfe.png\n", b"\xff\xfe\n\x00\n", b"\xfe\xff\x00\n"])
def test_bytes_that_only_begin_like_utf16_stay_as_they_are(content, tmp_path):
    assert lines_of(content, tmp_path) == content.splitlines()


def test_an_endless_line_is_one_line_of_bounded_size(tmp_path):
    found = lines_of(b"x" * 3_000_000 + b"\ny\n", tmp_path)
    assert [len(line) for line in found] == [MAX_LINE_BYTES + 1, 1]
    assert line_to_path(found[0]) == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=20), st.integers(1, 9))
def test_lines_do_not_depend_on_how_they_arrive(lines, chunk):
    content = b"".join(line + b"\n" for line in lines)
    reading, writing = os.pipe()
    iterator = read_lines(reading)
    found = []
    try:
        for start in range(0, len(content), chunk):
            piece = content[start : start + chunk]
            os.write(writing, piece)
            found += [next(iterator) for _ in range(piece.count(b"\n"))]
        os.close(writing)
        assert list(iterator) == []
    finally:
        os.close(reading)
    assert found == [line.removesuffix(b"\r") for line in lines]


NOISY = """
import ctypes, os, subprocess, sys
from detector.stream import take_stdout, write_whole
results = take_stdout()
print("python print")
os.write(1, b"written to 1\\n")
os.system("echo a child")
subprocess.run(["echo", "another child"])
libc = ctypes.CDLL(None)
libc.puts(b"native puts")
libc.fflush(None)
write_whole(results, b"0.5000\\t1\\n")
"""


def test_nothing_but_results_reaches_stdout(repo):
    done = subprocess.run([sys.executable, "-c", NOISY], cwd=repo / "docker", capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"0.5000\t1\n"
    for noise in (b"python print", b"written to 1", b"a child", b"another child", b"native puts"):
        assert noise in done.stderr


def test_paths_of_any_bytes_survive():
    assert os.fsencode(line_to_path(b"caf\xe9 \xff.png")) == b"caf\xe9 \xff.png"


class FakeReader:
    """Counts what it reads."""

    def __init__(self):
        self.paths = []

    def read(self, path: str) -> Meme:
        self.paths.append(path)
        return Meme(path)


@contextmanager
def reading(content: bytes, workers: int, ahead: int, write_end_open: bool = False):
    """(ReadAhead over these lines, its reader, descriptor that more may be written to)."""
    source, sink = os.pipe()
    reader, lines = FakeReader(), ReadAhead(workers, ahead)

    def feed():
        with open(sink, "wb", closefd=not write_end_open) as pipe:
            pipe.write(content)

    feeding = threading.Thread(target=feed)
    feeding.start()
    lines.start(reader, source)
    try:
        yield lines, reader, sink
    finally:
        lines.close()
        os.close(source)
        feeding.join()
        if write_end_open:
            os.close(sink)


def numbered(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


def test_many_lines_at_once_make_full_batches_in_order():
    with reading(numbered(1700), workers=2, ahead=64) as (lines, _, _):
        batches = list(lines.batches(16, max_wait_seconds=5))
    assert [len(batch) for batch in batches] == [16] * 106 + [4]
    assert [meme.path for batch in batches for meme in batch] == [str(number) for number in range(1700)]
    assert not lines.stopped


def test_a_line_is_not_kept_waiting_for_the_next_one():
    with reading(b"", workers=1, ahead=8, write_end_open=True) as (lines, _, sink):
        batches = lines.batches(16, max_wait_seconds=0.001)
        for path in (b"a", b"b"):  # the second is written only once the first is answered
            os.write(sink, path + b"\n")
            assert [meme.path for meme in next(batches)] == [path.decode()]


def test_no_more_lines_are_taken_in_than_there_is_room_for():
    with reading(numbered(1000), workers=1, ahead=10) as (lines, reader, _):
        batches = lines.batches(4, max_wait_seconds=5)
        for number in range(20):
            next(batches)
            # `ahead` on their way, and the batch in hand, whose room is given back with the next.
            assert len(reader.paths) <= 4 * number + 4 + 10
    assert 80 <= len(reader.paths) < 100


def test_a_stop_ends_with_what_was_in_hand_and_nothing_is_left_running():
    before = set(threading.enumerate())
    with reading(numbered(100), workers=3, ahead=4) as (lines, _, _):
        batches = lines.batches(2, max_wait_seconds=0.1)
        next(batches)
        lines.stop()
        assert sum(len(batch) for batch in batches) <= 2
        assert lines.stopped
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert not set(threading.enumerate()) - before


def test_a_signal_in_the_middle_of_anything_ends_it():
    """stop() at each of the first 80 calls and returns that follow the first batch: a lock held there would hang it."""

    def run_stopped_at(step: int, lines: ReadAhead) -> None:
        batches = lines.batches(2, max_wait_seconds=0)
        next(batches)
        steps = iter(range(step, 0, -1))

        def count_down(*_) -> None:
            if next(steps) == 1:
                sys.setprofile(None)
                lines.stop()

        sys.setprofile(count_down)
        try:
            list(batches)
        finally:
            sys.setprofile(None)

    for step in range(1, 81):
        with reading(numbered(300), workers=1, ahead=4) as (lines, _, _):
            thread = threading.Thread(target=run_stopped_at, args=(step, lines), daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive() and lines.stopped, step
