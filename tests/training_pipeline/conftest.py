"""The training pipeline run once a session, small: a base model, a data set, an adapter, a merged and a 4-bit model."""

import pytest
from small_memes import TINY_RUN, meme_rows, save_dataset


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory):
    return save_dataset(
        tmp_path_factory.mktemp("data") / "dataset",
        train=meme_rows(96, 1),
        validation=meme_rows(24, 2),
        test=meme_rows(24, 3),
    )


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory):
    """A chat model as Hugging Face saves one, hardly trained."""
    from guard.attaching import POLICY_FILE, policy_text
    from tiny.llm import train_llm

    memes = [{"text": row["text"], "caption": row["image"], "language": row["language"]} for row in meme_rows(40, 4)]
    policy = policy_text(POLICY_FILE.read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("models") / "base-llm"
    train_llm(memes, policy, folder, steps=3, seed=1)
    return folder


@pytest.fixture(scope="session")
def lora_run(base_dir, dataset_dir, run_script, tmp_path_factory):
    """(folder, finished process) of one whole training."""
    folder = tmp_path_factory.mktemp("lora") / "lora"
    process = run_script(
        "training_pipeline/train_model.py",
        {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder, **TINY_RUN},
    )
    assert process.returncode == 0, process.stderr.decode()[-3000:]
    return folder, process


@pytest.fixture(scope="session")
def merged_run(base_dir, lora_run, run_script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged") / "merged"
    process = run_script(
        "training_pipeline/load_lora.py", {"MODEL_DIR": base_dir, "LORA_DIR": lora_run[0], "OUTPUT_DIR": folder}
    )
    assert process.returncode == 0, process.stderr.decode()[-3000:]
    return folder, process
