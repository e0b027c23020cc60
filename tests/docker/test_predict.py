"""predict.py as a judge runs it: paths in, one line out for each."""

import re

LINE = re.compile(rb"^[01]\.\d{4}\t[01]$")


def result_lines(stdout: bytes) -> list[bytes]:
    """The lines of stdout, each checked for its exact form, nothing before, between or after them."""
    assert stdout == b"" or stdout.endswith(b"\n")
    lines = stdout.split(b"\n")[:-1]
    assert all(LINE.match(line) for line in lines), stdout
    return lines


def test_one_line_for_each_path_in_order_whatever_fails(run_script, models, memes_dir, tmp_path):
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    paths = [memes_dir / "0.png", memes_dir / "none.png", memes_dir / "1.png", corrupt, memes_dir / "2.png"]
    stdin = "\n".join(map(str, paths)).encode() + b"\n"
    done = run_script("docker/predict.py", {**models, "FALLBACK_PROBABILITY": "0.25"}, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    lines = result_lines(done.stdout)
    assert len(lines) == 5
    assert [line == b"0.2500\t0" for line in lines] == [False, True, False, True, False]
    assert b"5 lines done, 2 failed (1 missing, 1 not_an_image)" in done.stderr
