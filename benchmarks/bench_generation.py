"""How fast generate_data.py asks, and how close it comes to a provider's rate limit.

Against the stand-in server of tests/ (1 s latency): 200 runs by the script with 32 in flight, measured from the start
of the process to its end, against one request after another (1 + SEQUENTIAL_RUNS runs, extrapolated); then 600 runs
from a server that permits RATE requests a second and answers 429 with Retry-After above that.

    python benchmarks/bench_generation.py

Writes its figures to stdout; about two minutes on two cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))
from stand_in_server import StandIn  # noqa: E402

RUNS, IN_FLIGHT, LATENCY_S, SEQUENTIAL_RUNS = 200, 32, 1.0, 40
RATE, RATE_SECONDS, RATE_BURST = 15.0, 40, 15


def generate(server: StandIn, runs: int, in_flight: int) -> float:
    """Seconds that the whole process takes for `runs` replies, all of which must be there."""
    with tempfile.TemporaryDirectory() as output:
        settings = {
            "MODEL_ID": "stand/in",
            "API_KEY": "none",
            "PROMPT_KEY": "general_ok",
            "NUM_RUNS": str(runs),
            "OUTPUT_ROOT": output,
            "TOGETHER_BASE_URL": server.url,
            "MAX_IN_FLIGHT": str(in_flight),
        }
        started = time.monotonic()
        subprocess.run(
            [sys.executable, str(REPOSITORY / "data_preparation" / "generate_data.py")],
            check=True,
            env={"PATH": os.environ["PATH"], **settings},
            capture_output=True,
        )
        elapsed = time.monotonic() - started
        written = len(list(Path(output).glob("in_general_ok/*.json")))
    assert written == runs, f"{written} of {runs} runs were written"
    return elapsed


def main() -> None:
    with StandIn(latency_s=LATENCY_S) as server:
        first = generate(server, 1, 1)
        one_more = (generate(server, 1 + SEQUENTIAL_RUNS, 1) - first) / SEQUENTIAL_RUNS
        one_by_one = first + (RUNS - 1) * one_more
    with StandIn(latency_s=LATENCY_S) as server:
        together = generate(server, RUNS, IN_FLIGHT)
        at_once = server.most_at_once
    print(
        f"{RUNS} runs at {LATENCY_S:.0f} s latency: {together:.2f} s with at most {at_once} in flight, "
        f"{one_by_one:.1f} s one after another: {one_by_one / together:.1f} times faster",
        flush=True,
    )
    with StandIn(latency_s=LATENCY_S, rate=RATE, burst=RATE_BURST) as server:
        runs = int(RATE * RATE_SECONDS)
        elapsed = generate(server, runs, 64)
        permitted = RATE_BURST + RATE * elapsed
        refused = server.statuses().count(429)
    print(
        f"{runs} runs where {RATE:.0f} requests a second are permitted: {elapsed:.1f} s, {runs / permitted:.1%} of "
        f"the permitted rate, {refused} refusals"
    )


if __name__ == "__main__":
    main()
