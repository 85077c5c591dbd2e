"""``make bench``: every benchmark, one after another, on a machine that should be doing nothing else."""

from __future__ import annotations

import importlib
import json
import sys

BENCHMARKS = {
    "overhead": "harness overhead per experiment, and memory (aims: 20 s cold, 12 s warm, under 2 GiB)",
    "deploy": "Docker: to ready, and to nothing left (aims: 20 s cold, 12 s warm, teardown 5 s)",
    "stack": "the stack at 300 mixed operations/s for 60 s (aim: p99 under 250 ms, invariants hold)",
    "load": "recorder against bare Locust (aim: under 5 %), send lag p99 at 300/s (aim: under 10 ms)",
    "judge": "a million operations with all invariants (aim: under 5 s)",
    "links": "latency added by a link: direct, real server, built-in engine",
}


def main(names: list[str]) -> None:
    for name in names or list(BENCHMARKS):
        print(f"== {name}: {BENCHMARKS[name]}", flush=True)
        print(json.dumps(importlib.import_module(f"benchmarks.{name}").measure(), indent=2), flush=True)


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark called {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
    main(sys.argv[1:])
