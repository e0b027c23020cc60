"""INPUT in all its kinds: which rows come out, under which key, and what is refused with which words."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.inputs import PATHS_A_PART, UnusableSource, choose_columns, open_source
from batch.stores import fetch
from detector.image_decoding import UnreadableImage

BYTES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows(url, path_column=None, bytes_column=None) -> list[tuple]:
    """(path, content) of every row, part by part."""
    source = open_source(str(url), path_column, bytes_column)
    assert len(source.get_read_tasks(200)) == len(source.parts)
    return [
        (row["path"], row["content"])
        for task in source.get_read_tasks(1)
        for table in task()
        for row in table.to_pylist()
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "deep/b.JPG", "deep/c d#?%20.webp", ".hidden.png", "labels.csv"):
        (tmp_path / "memes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "memes" / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("memes", ["memes/a.png", "memes/deep/b.JPG", "memes/deep/c d#?%20.webp"]),
        ("memes/", ["memes/a.png", "memes/deep/b.JPG", "memes/deep/c d#?%20.webp"]),
        ("memes/*.png", ["memes/a.png"]),
        ("memes/**/[bc]*", ["memes/deep/b.JPG", "memes/deep/c d#?%20.webp"]),
        ("memes/a.png", ["memes/a.png"]),
    ],
)
def test_pictures_of_a_folder_or_glob_are_named_as_input_is(folder, url, names):
    assert rows(url) == [(name, None) for name in names]
    for scheme in ("file", "local"):  # by pyarrow and by fsspec
        assert rows(f"{scheme}://{folder}/{url}") == [(f"{scheme}://{folder}/{name}", None) for name in names]


def test_every_listed_name_opens_the_same_file_again(folder):
    for scheme in ("file", "local"):
        for name, _ in rows(f"{scheme}://{folder}/memes"):
            assert fetch(name) == b"x"
    for url, reason in (
        (f"file://{folder}/none.png", "missing"),
        (f"file://{folder}/memes", "unreadable"),
        ("nowhere://x", "unreadable"),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            fetch(url)


def test_links_to_folders_are_followed_and_a_loop_ends(folder):
    for name in ("elsewhere/d.png", "elsewhere/in/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "memes/again").symlink_to("deep")
    (folder / "memes/deep/loop").symlink_to(folder / "memes")
    (folder / "memes/dangling").symlink_to("nowhere")
    (folder / "memes/linked").symlink_to(folder / "elsewhere")
    (folder / "linked.png").symlink_to("memes/a.png")
    (folder / "all").symlink_to("memes")
    below = ["a.png", "deep/b.JPG", "deep/c d#?%20.webp", "linked/d.png", "linked/in/e.png"]
    for url in ("memes", "all", f"file://{folder}/memes"):
        assert rows(url) == [(f"{url}/{name}", None) for name in below]
    assert rows("memes/**/*.png") == [(f"memes/{name}", None) for name in below if name.endswith("png")]
    assert rows("memes/*/*.png") == [("memes/linked/d.png", None)]
    assert rows("memes/again/*") == [("memes/again/b.JPG", None), ("memes/again/c d#?%20.webp", None)]
    assert rows("memes/l*/in/e.png") == [("memes/linked/in/e.png", None)]
    assert rows("*.png") == rows("linked.png") == [("linked.png", None)]


def test_lines_of_a_text_file_are_paths_each_once(folder):
    (folder / "list.txt").write_bytes(b'a.png\r\n\nb "quoted", c.png\na.png\nhttp://host/x.png?size=1')
    expected = ["a.png", 'b "quoted", c.png', "http://host/x.png?size=1"]
    assert rows("list.txt") == [(path, None) for path in expected]
    (folder / "latin.txt").write_bytes(b"caf\xe9.png\nb.png\n")
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbfa.png\n\xef\xbb\xbfb.png\n")
    assert rows("marked.txt") == [("a.png", None), ("b.png", None)]
    assert rows("latin.txt") == [("caf\\xe9.png", None), ("b.png", None)]


def test_a_name_that_is_not_utf8_becomes_a_row_not_an_error(folder):
    (folder / "memes" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    assert ("memes/caf\\xe9.png", None) in rows("memes")


def test_many_paths_are_read_in_parts_that_are_no_larger_than_they_need_be(folder):
    import pickle

    (folder / "list.txt").write_text("".join(f"{number:07}.png\n" for number in range(2 * PATHS_A_PART + 1)))
    parts = open_source("list.txt", None, None).parts
    assert [next(part()).num_rows for part in parts] == [PATHS_A_PART, PATHS_A_PART, 1]
    assert len(pickle.dumps(parts[2])) < 2000 < PATHS_A_PART < len(pickle.dumps(parts[0]))


def test_tables_of_paths(folder):
    (folder / "tables").mkdir()
    for number in range(2):
        pq.write_table(
            pa.table({"url": [f"{number}a.png", f"{number}b.png"], "likes": [1, 2]}),
            folder / "tables" / f"{number}.parquet",
        )
    (folder / "tables" / "_SUCCESS").write_bytes(b"")
    expected = [(f"{number}{letter}.png", None) for number in range(2) for letter in "ab"]
    assert rows("tables") == rows("tables/*.parquet") == rows(f"file://{folder}/tables", path_column="url") == expected


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), BYTES])
def test_tables_of_bytes_are_numbered_unless_they_have_paths(folder, kind):
    values = [
        None if number == 1 else {"bytes": b"%d" % number} if kind == BYTES else b"%d" % number for number in range(150)
    ]
    table = pa.table({"image": pa.array(values, kind), "caption": ["a text"] * 150})
    pq.write_table(table, folder / "t.parquet", row_group_size=40)
    contents = [None if number == 1 else b"%d" % number for number in range(150)]
    assert rows("t.parquet") == [(f"t.parquet#{number}", content) for number, content in enumerate(contents)]
    paths = [None if number == 7 else f"{number}.png" for number in range(150)]
    pq.write_table(table.append_column("path", pa.array(paths)), folder / "t.parquet", row_group_size=40)
    keys = [path or "t.parquet#7" for path in paths]
    assert rows("t.parquet") == rows("t.parquet", "path", "image") == list(zip(keys, contents, strict=True))


def test_a_picture_without_bytes_is_the_one_at_its_path(folder):
    """As `datasets` writes them: the path is whole where bytes are null, and a bare name beside bytes."""
    pictures = [
        {"bytes": None, "path": "memes/a.png"},
        {"bytes": b"x", "path": "a.png"},
        {"bytes": None, "path": None},
        None,
    ]
    for kind in (BYTES, pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])):
        table = pa.table({"image": pa.array(pictures, kind), "label": [1, 0, 1, 0]})
        pq.write_table(table, folder / "t.parquet")
        keys = ["memes/a.png", "t.parquet#1", "t.parquet#2", "t.parquet#3"]
        assert rows("t.parquet") == list(zip(keys, [None, b"x", None, None], strict=True))
        pq.write_table(table.append_column("id", pa.array(["p", "q", "r", "s"])), folder / "t.parquet")
        keys = ["memes/a.png", "q", "r", "s"]
        assert rows("t.parquet", "id") == list(zip(keys, [None, b"x", None, None], strict=True))


@pytest.mark.parametrize(
    ("schema", "named", "chosen"),
    [
        ({"path": pa.string(), "title": pa.string()}, (None, None), (None, "path")),
        ({"id": pa.int64(), "url": pa.large_string()}, (None, None), (None, "url")),
        ({"a": pa.string(), "b": pa.string()}, ("b", None), (None, "b")),
        ({"image": BYTES, "name": pa.string()}, ("name", None), ("image", "name")),
        ({"image": pa.binary(), "phash": pa.binary()}, (None, "image"), ("image", None)),
    ],
)
def test_columns_are_found_by_type_or_named(schema, named, chosen):
    assert choose_columns(pa.schema(schema), *named) == chosen


@pytest.mark.parametrize(
    ("schema", "named", "words"),
    [
        ({"a": pa.string(), "b": pa.string()}, (None, None), r"several columns .*\(a, b\): name one by PATH_COLUMN"),
        ({"image": pa.binary(), "phash": pa.binary()}, (None, None), "image, phash.*BYTES_COLUMN"),
        ({"id": pa.int64()}, (None, None), "no column of paths or of bytes: it has id"),
        ({"id": pa.int64()}, ("url", None), r"no column url \(PATH_COLUMN\)"),
        ({"id": pa.int64()}, ("id", None), "holds int64, not text"),
        ({"id": pa.int64()}, (None, "id"), "holds int64, not bytes"),
    ],
)
def test_columns_that_cannot_be_are_named(schema, named, words):
    with pytest.raises(UnusableSource, match=words):
        choose_columns(pa.schema(schema), *named)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("none", "no pictures"),
        ("none*", "no pictures"),
        ("memes/**.png", "cannot be read"),
        ("nowhere://x", "not known"),
        ("list.bin", "no text file of paths"),
        ("empty.txt", "no path|cannot be read"),
        ("broken.parquet", "cannot be read"),
        (".", "3 pictures and 1 Parquet files"),
    ],
)
def test_what_is_no_input_is_named_with_the_remedy(folder, url, words):
    (folder / "list.bin").write_bytes(b"PK\0\0")
    (folder / "empty.txt").write_bytes(b"\n\n")
    (folder / "broken.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(UnusableSource, match=words):
        open_source(url, None, None)
