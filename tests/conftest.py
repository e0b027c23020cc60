"""What every test shares: the repository's path and a way to run a script as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def run_script():
    """Run a script of the project in a bare environment; stdin, stdout and stderr are bytes."""

    def run(
        script: str,
        env: dict | None = None,
        stdin: bytes = b"",
        timeout: float = 300,
        cwd=None,
        arguments=(),
        launcher=(),
    ):
        return subprocess.run(
            [sys.executable, *launcher, str(REPOSITORY / script), *arguments],
            env=bare_environment(env),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
        )

    return run


def bare_environment(settings: dict | None = None) -> dict[str, str]:
    """Only what a process needs to start, so that a developer's own variables change no result."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**kept, **threads, **offline, **{name: str(value) for name, value in (settings or {}).items()}}


@pytest.fixture(scope="session")
def tiny_models_dir(run_script, tmp_path_factory) -> Path:
    """base-llm/ and captioner/ as make_tiny_models.py writes them, hardly trained."""
    folder = tmp_path_factory.mktemp("tiny-models")
    made = run_script(
        "training_pipeline/make_tiny_models.py", {"OUTPUT_DIR": folder, "LLM_STEPS": "2", "CAPTIONER_STEPS": "2"}
    )
    assert made.returncode == 0, made.stderr.decode()[-3000:]
    return folder
