"""The demo runs the scripts as users do: every variable it sets is one that the script's --help lists."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


def load_demo(repo):
    spec = importlib.util.spec_from_file_location("demo", repo / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


def variables_of(script) -> set[str]:
    """The variables that --help prints, which is how a user learns of them."""
    manual = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True).stdout
    return {flag.upper().replace("-", "_") for flag in re.findall(r"^  --([a-z0-9-]+)", manual, re.M)}


@pytest.mark.parametrize("stand_in", [True, False])
def test_no_stage_uses_a_private_switch(repo, stand_in):
    for name, script, settings, _ in load_demo(repo).stages(Path("out"), stand_in):
        assert settings.keys() <= variables_of(repo / script), name


@pytest.mark.parametrize(
    ("stand_in", "models"), [(True, {"base-llm", "captioner"}), (False, {"../smollm2", "../guard", "captioner"})]
)
def test_the_artifacts_that_the_readme_promises_are_written(repo, stand_in, models):
    written = " ".join(stage[3] for stage in load_demo(repo).stages(Path("out"), stand_in)).split()
    assert models | {"raw", "dataset", "lora", "merged", "llm-gptq", "predictions-own.tsv", "report-own"} <= set(
        written
    )
    assert ("predictions-published.tsv" in written) == (not stand_in)


def test_the_base_may_be_the_stand_in_and_each_base_has_its_own_folder(repo, monkeypatch):
    monkeypatch.setenv("BASE", "tiny")
    demo = load_demo(repo)
    assert demo.STAND_IN and Path("artifacts/demo-tiny") == demo.OUTPUT_DIR


@pytest.fixture
def small_demo(repo, tmp_path, monkeypatch):
    """The demo's own way of running stages, in a folder of its own."""
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "demo"))
    demo = load_demo(repo)
    (tmp_path / "demo").mkdir()
    return demo, tmp_path / "demo"


def test_stages_run_one_after_another_and_a_second_run_keeps_what_is_there(small_demo, capfd):
    demo, output = small_demo
    demo.SECONDS_BETWEEN_LINES = 0.2
    few = {"NUM_RUNS": 4}
    plan = [
        (name, script, {**settings, **(few if "generate" in script else {})}, wrote)
        for name, script, settings, wrote in demo.data_stages(output)
        if name != "translate"
    ]
    rows = demo.run_stages(plan, [], output)
    assert [row[0] for row in rows] == ["generate harmless", "generate offensive", "clean"]
    assert (output / "dataset" / "dataset_dict.json").exists() and (output / "logs" / "generate_data.log").exists()
    printed = capfd.readouterr().out
    assert "[1/3] generate harmless" in printed and "wrote 16 runs (80 items)" in printed
    assert re.search(r"^ +[0-9]+ s  ", printed, re.M), "a line now and then, while a stage runs"
    demo.run_stages(plan, [], output)
    assert "(16 were there, 0 missing)" in capfd.readouterr().out


def test_a_stage_that_fails_ends_the_demo_with_its_log(small_demo, capfd):
    demo, output = small_demo
    script = "data_preparation/clean_dataset.py"
    with pytest.raises(SystemExit, match=f"{script} failed with exit code 2; its log is {output}/logs/clean_dataset"):
        demo.run_stages([("clean", script, {"RAW_ROOT": output / "nothing"}, "dataset")], [], output)
    assert "is no folder; RAW_ROOT takes folders" in capfd.readouterr().err


def test_the_pictures_are_scored_and_the_summary_names_what_came_of_it(small_demo, tiny_models_dir, run_script, capsys):
    demo, output = small_demo
    models = {"MODEL_DIR": tiny_models_dir / "base-llm", "OUTPUT_DIR": output / "llm"}
    assert run_script("training_pipeline/attach_policy.py", models).returncode == 0
    images = [str(demo.SAMPLES / f"meme_00{number}.png") for number in (3, 4, 5, 6)]
    settings = {"LLM_DIR": output / "llm", "CAPTION_MODEL_DIR": tiny_models_dir / "captioner"}
    (output / "stdin.csv").write_text("\n".join(images) + "\n")
    plan = demo.detecting_stages(output, "own", settings["LLM_DIR"])
    plan[0][2].update(settings)
    table = (demo.SAMPLES / "labels.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    few = [line for line in table if line.startswith(("file_name", *(Path(image).name for image in images)))]
    plan[1][2]["LABELS_PATH"] = output / "labels.csv"
    plan[1][2]["LABELS_PATH"].write_text("".join(few), encoding="utf-8")
    rows = demo.run_stages(plan, images, output)
    lines = (output / "predictions-own.tsv").read_text().splitlines()
    assert len(lines) == 4 and not list(output.glob(".*unfinished"))
    for kind, auroc in (("merged", 0.75), ("gptq", 0.25)):
        (output / f"evaluation-{kind}").mkdir()
        report = {"auroc": auroc, "tfidf_auroc": 0.5, "rows": 8, "groups": 4}
        (output / f"evaluation-{kind}" / "evaluation.json").write_text(json.dumps(report))
    demo.print_summary(rows, images, output)
    printed = capsys.readouterr().out
    probability, label = lines[0].split("\t")
    assert re.search(rf"^meme_003.png +(ok|offensive) +{float(probability):.2f} {label} +\w", printed, re.M)
    assert re.search(r"on the sample pictures: AUROC [01]\.\d{4} \(95 % [01]\.\d{3} to [01]\.\d{3}", printed)
    assert "published" not in printed, "the stand-in is scored alone"
    assert "AUROC 0.7500 in 16 bits, 0.2500 in 4 bits; TF-IDF baseline 0.5000 (8 rows, 4 groups)" in printed
