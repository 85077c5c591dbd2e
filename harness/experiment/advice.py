"""What an experiment may do and will be sorry for: no error, for it can be run, and told before it is."""

from __future__ import annotations

import math

from harness.experiment.model import Experiment
from harness.experiment.target import TargetSpec
from harness.experiment.units import show_duration

FEWEST_STEADY = 20  # operations, below which steady says nothing about a function
ENOUGH_STEADY = 37  # so many expected, and fewer than those come by chance in one run of a thousand (Poisson)


def advice(experiment: Experiment, spec: TargetSpec) -> tuple[str, ...]:
    """One sentence for each function of the mix of which steady will have too little to be a baseline."""
    load = experiment.load
    whole = sum(load.mix.values())
    said = []
    for function, kinds in spec.functions.items():
        rate_per_s = load.rate_per_s * sum(load.mix.get(kind, 0.0) for kind in kinds) / whole
        expected = rate_per_s * experiment.steady_s
        if rate_per_s > 0 and expected < ENOUGH_STEADY:
            enough_s = math.ceil(ENOUGH_STEADY / rate_per_s)
            said.append(
                f"{function} will have about {expected:.0f} operations in steady, and by chance fewer; with "
                f"fewer than {FEWEST_STEADY} its recovery cannot be judged; "
                f"steady: {show_duration(enough_s)} would do, or a higher rate, or more weight in load.mix"
            )
    return tuple(said)
