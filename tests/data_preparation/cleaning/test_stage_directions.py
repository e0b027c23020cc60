"""What stands in brackets: stage directions go, text stays. bracket_cases.json was written for this."""

import json
from pathlib import Path

from cleaning.stage_directions import without_stage_directions

CASES = json.loads(Path(__file__).with_name("bracket_cases.json").read_text(encoding="utf-8"))


def test_stage_directions_go():
    assert len(set(CASES["directions"])) >= 60
    left = [
        case
        for case in CASES["directions"]
        if without_stage_directions(f"before {case} after").split() != ["before", "after"]
    ]
    assert len(left) <= 0.02 * len(CASES["directions"]), left


def test_text_in_brackets_stays():
    assert len(set(CASES["text"])) >= 60
    eaten = [
        case for case in CASES["text"] if without_stage_directions(f"before {case} after") != f"before {case} after"
    ]
    assert len(eaten) <= 0.02 * len(CASES["text"]), eaten
