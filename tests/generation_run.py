"""A run of generate_data.py against the stand-in server: its settings, and what it left."""

import json

SCRIPT = "data_preparation/generate_data.py"
KEY = "sk-very-secret-key"


def settings_for(server, output, **settings):
    return {
        "MODEL_ID": "stand/in-model",
        "API_KEY": KEY,
        "PROMPT_KEY": "general_ok",
        "NUM_RUNS": 4,
        "OUTPUT_ROOT": output,
        "TOGETHER_BASE_URL": server.url,
        **settings,
    }


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def runs(*numbers, folder="in-model_general_ok"):
    return {f"{folder}/{number:04d}.json" for number in numbers}


def failures_in(folder):
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.rglob("failed/*.json"))}
