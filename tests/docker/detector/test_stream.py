"""Lines of bytes in, result lines out."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from result_stream import MAX_LINE_BYTES, line_to_path, read_lines, result_line


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
from result_stream import take_stdout, write_whole
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


@pytest.mark.parametrize(
    ("probability", "line"),
    [
        (0.5, b"0.5000\t1\n"),
        (0.49999, b"0.5000\t1\n"),
        (0.49994, b"0.4999\t0\n"),
        (0, b"0.0000\t0\n"),
        (1, b"1.0000\t1\n"),
    ],
)
def test_the_label_agrees_with_the_printed_number(probability, line):
    assert result_line(probability, 0.5) == line
