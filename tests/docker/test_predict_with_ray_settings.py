"""What predict_with_ray.py is told, and what it is refused or warned of; no Ray is started here."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize(
    ("requested", "cpus", "readers", "needed"),
    [
        (0, 64, 61, None),
        (0, 3, 1, None),
        (0, 2, 1, 3),
        (0, 0, 1, 3),
        (6, 8, 6, None),
        (7, 8, 7, 9),
        (256, 32, 256, 258),
    ],
)
def test_readers_that_leave_ray_no_cpu_are_warned_of(capsys, requested, cpus, readers, needed):
    from predict_with_ray import count_readers

    assert count_readers(requested, cpus) == readers
    warned = capsys.readouterr().err
    assert f"need {needed} CPUs, the cluster has {cpus}: unless it grows" in warned if needed else not warned


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"INPUT": "/none"}, b"INPUT=/none: no pictures"),
        ({"OUTPUT": "nowhere://x"}, b"OUTPUT=nowhere://x: Protocol not known"),
        ({"NUM_GPUS": "1.5"}, b"NUM_GPUS=1.5: is neither a fraction"),
        ({"INPUT": "memes.parquet", "PATH_COLUMN": "url"}, b"has no column url (PATH_COLUMN): it has image"),
        ({"LLM_DIR": "."}, b"attach_policy.py"),
        (
            {"MAX_TEXT_TOKENS": "300"},
            b"MAX_TEXT_TOKENS=300: the model was trained and evaluated with 256 tokens a view",
        ),
    ],
)
def test_what_cannot_be_used_is_named_before_ray_starts(run_script, models, tmp_path, settings, named):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "memes.parquet")
    defaults = {**models, "INPUT": "memes.parquet", "OUTPUT": "output"}
    done = run_script("docker/predict_with_ray.py", defaults | settings, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and named in done.stderr and b"Traceback" not in done.stderr
    assert not (tmp_path / "output").exists()


def test_an_output_of_an_older_version_is_refused_and_left_alone(run_script, models, memes_dir, tmp_path):
    (tmp_path / "output").mkdir()
    pq.write_table(pa.table({"path": ["a.png"], "probability": [0.5]}), tmp_path / "output" / "old.parquet")
    before = (tmp_path / "output" / "old.parquet").read_bytes()
    settings = {**models, "INPUT": memes_dir, "OUTPUT": "output"}
    done = run_script("docker/predict_with_ray.py", settings, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and b"OUTPUT=output: 1 of its 1 Parquet files lack label, categories," in done.stderr
    assert b"Name another OUTPUT" in done.stderr and b"Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["old.parquet"]
    assert (tmp_path / "output" / "old.parquet").read_bytes() == before


def test_the_summary_tells_of_failures_and_of_what_was_not_seen(tmp_path, capsys):
    from pyarrow.fs import LocalFileSystem

    from predict_with_ray import summary

    seen = pa.table({"error": [None, "missing"], "unseen_frames": [0.5, 0.0], "unseen_text": [0.0, 0.0]})
    pq.write_table(seen, tmp_path / "a.parquet")
    summary("output", LocalFileSystem(), str(tmp_path), 12.3)
    told = "2 rows in output, 1 failed (1 missing); 1 with unseen frames; 12 s\n"
    assert capsys.readouterr().err == f"predict_with_ray.py: {told}"


def test_the_example_cluster_is_one_by_rays_own_schema(repo):
    import jsonschema
    import ray
    import yaml

    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cluster = yaml.safe_load((repo / "docker/ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    pinned = (repo / "requirements-scale.txt").read_text().split("ray[data]==")[1].split()[0]
    assert f"ray[default]=={pinned}" in " ".join(cluster["setup_commands"])
