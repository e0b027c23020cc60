"""Pictures at URLs, fetched before their turn from a server that can fail; test_inputs.py has the listings."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from batch.stores import fetch, fetch_ahead
from detector.image_decoding import UnreadableImage


@contextmanager
def serving(answer):
    """(address, paths requested): GETs get `answer(path, how often it was requested)`, a status or the content."""
    requested, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.reply(b"")

        def do_GET(self):
            with lock:
                requested.append(self.path)
            self.reply(answer(self.path, requested.count(self.path)))

        def reply(self, found):
            self.send_response(found if isinstance(found, int) else 200)
            self.send_header("Content-Length", "0" if isinstance(found, int) else str(len(found)))
            self.end_headers()
            if isinstance(found, bytes) and self.command == "GET":
                self.wfile.write(found)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requested
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_pictures_are_fetched_side_by_side_and_in_order(pool):
    """Each answer waits until four are requested: one at a time none would come."""
    together = threading.Barrier(4, timeout=30)

    def answer(path, _):
        together.wait()
        return path.encode()

    with serving(answer) as (address, requested):
        rows = [(f"{address}/{number}", None) for number in range(8)]
        assert list(fetch_ahead(rows, pool, 4)) == [(path, f"/{path[-1]}".encode()) for path, _ in rows]
        assert sorted(requested) == [f"/{number}" for number in range(8)]


def test_no_more_are_held_than_requested(pool):
    with serving(lambda path, _: b"x") as (address, requested):
        taken = 0

        def rows():
            for number in range(20):
                assert number - taken <= 3
                yield f"{address}/{number}", None

        for _ in fetch_ahead(rows(), pool, 2):
            taken += 1
        assert (taken, len(requested)) == (20, 20)


def test_what_is_at_hand_or_on_a_disk_is_left_alone(pool, tmp_path):
    rows = [("http://127.0.0.1:9/x", b"held"), (str(tmp_path), None), ("", None), ("none.png", None)]
    assert list(fetch_ahead(rows, pool, 2)) == rows


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_fetch_that_failed_is_tried_again_in_its_turn_and_named_if_that_fails(pool, status):
    with serving(lambda path, times: status if times == 1 or path == "/down" else b"no picture") as (address, _):
        rows = list(fetch_ahead([(f"{address}/late", None), (f"{address}/down", None)], pool, 2))
        assert [content for _, content in rows] == [None, None]
        assert fetch(rows[0][0]) == b"no picture"
        with pytest.raises(UnreadableImage, match="missing" if status == 404 else "unreadable"):
            fetch(rows[1][0])


@pytest.mark.parametrize("limit", [2**20 - 1, 3 * 2**20])
def test_a_picture_that_does_not_end_is_not_held_whole(monkeypatch, tmp_path, limit):
    monkeypatch.setattr("batch.stores.MAX_PICTURE_BYTES", limit)
    (tmp_path / "fits.png").write_bytes(b"x" * limit)
    (tmp_path / "large.png").write_bytes(b"x" * (limit + 1))
    with serving(lambda path, _: (tmp_path / path[1:]).read_bytes()) as (address, _):
        for url in (address, f"file://{tmp_path}", f"local://{tmp_path}"):
            assert len(fetch(f"{url}/fits.png")) == limit
            with pytest.raises(UnreadableImage, match="unreadable"):
                fetch(f"{url}/large.png")
