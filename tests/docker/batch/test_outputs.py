"""The rows of OUTPUT: their columns, what older files make of a resumed run, and the counts of the summary."""

from dataclasses import asdict, fields

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from batch.outputs import COLUMNS, PREDICTIONS, OtherVersion, count_rows, refuse_other_columns
from detector.meme import Evidence, Meme, evidence_of


def write_rows(path, memes, without=()):
    table = pa.Table.from_pylist([asdict(evidence_of(meme, 0.5)) for meme in memes], schema=PREDICTIONS)
    pq.write_table(table.drop_columns(list(without)), path)


def scored(path, **fields_of_it) -> Meme:
    return Meme(path, probability=0.25, **fields_of_it)


def test_output_has_all_evidence_but_the_lines_of_text():
    assert sorted([*COLUMNS, "ocr"]) == sorted(field.name for field in fields(Evidence))
    kinds = {"path": pa.string(), "probability": pa.float64(), "label": pa.int8(), "probability_text": pa.float64()}
    assert {name: PREDICTIONS.field(name).type for name in kinds} == kinds


def test_categories_are_a_map_and_times_a_record(tmp_path):
    shares = {"race": 0.75, "other": 0.25}
    write_rows(tmp_path / "a.parquet", [scored("a", categories=shares, milliseconds={"ocr": 3.5}), scored("b")])
    read = pq.read_table(tmp_path / "a.parquet")
    assert [dict(row["categories"]) for row in read.to_pylist()] == [shares, {}]
    assert [row["milliseconds"]["ocr"] for row in read.to_pylist()] == [3.5, None]
    assert pa.types.is_map(read.schema.field("categories").type)


def test_files_of_another_version_are_refused_and_what_a_crash_left_is_not(tmp_path):
    here = LocalFileSystem(), str(tmp_path / "output")
    refuse_other_columns(*here)  # nothing there yet
    (tmp_path / "output").mkdir()
    write_rows(tmp_path / "output" / "b.parquet", [scored("b")])
    (tmp_path / "output" / "half.parquet").write_bytes((tmp_path / "output" / "b.parquet").read_bytes()[:200])
    (tmp_path / "output" / "notes.txt").write_text("no Parquet")
    refuse_other_columns(*here)
    write_rows(tmp_path / "output" / "c.parquet", [scored("c")], without=["unseen_frames", "categories"])
    write_rows(tmp_path / "output" / "d.parquet", [scored("d")], without=["categories"])
    told = "2 of its 4 Parquet files lack categories, unseen_frames, .* another OUTPUT, or delete .* its .checkpoint"
    with pytest.raises(OtherVersion, match=told):
        refuse_other_columns(*here)


def test_the_summary_counts_errors_and_what_was_not_seen_over_all_files(tmp_path):
    write_rows(tmp_path / "a.parquet", [scored("a", unseen_frames=0.5), scored("b", error="missing"), scored("c")])
    write_rows(tmp_path / "b.parquet", [scored("d", unseen_frames=0.1, unseen_text=0.2), scored("e", error="missing")])
    counts = count_rows(LocalFileSystem(), str(tmp_path))
    assert (counts.rows, counts.errors, counts.unseen) == (5, {"missing": 2}, {"frames": 2, "text": 1})
    assert count_rows(LocalFileSystem(), str(tmp_path / "none")).rows == 0
