"""An experiment as it is written: the keys, their types and their ranges.

The loader validates against these models and the JSON Schema for editors is made from them, so a
key is described once. What needs the target or the faults is checked in ``checks``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, WithJsonSchema

from harness.experiment.units import PerSecond, Seconds

MAX_RATE_PER_S = 5000.0
MAX_REPEAT = 1000

NonEmpty = Annotated[StrictStr, Field(min_length=1, max_length=200)]
Weight = Annotated[StrictFloat, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Written(BaseModel):
    """Base: keys are those named here and no others; ``for`` is written ``for``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


Setting = Annotated[
    StrictStr,
    Field(max_length=4000),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),  # a reader makes text of what is not in quotes
]


class WrittenLoad(Written):
    rate: Annotated[
        PerSecond, Field(gt=0, le=MAX_RATE_PER_S, description="Arrivals per second: 120/s, 90/min")
    ]
    arrivals: Annotated[
        Literal["poisson", "constant"], Field(description="How arrivals are spread; open loop either way")
    ] = "poisson"
    mix: Annotated[
        dict[str, Weight], Field(min_length=1, description="Relative weights of the target's operation kinds")
    ]
    subscribers: Annotated[StrictInt, Field(ge=1, description="How many subscribers the load is about")] = 200


class WrittenFault(Written):
    """One line of ``faults``: the common keys; all others are the fault's own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    fault: Annotated[NonEmpty, Field(description="Which fault, see: ledgerquake list faults")]
    at: Annotated[Seconds, Field(description="From the end of steady")]
    for_: Annotated[
        Seconds | None, Field(alias="for", gt=0, description="How long it lasts; healed then")
    ] = None
    when: Annotated[
        NonEmpty | None,
        Field(description="A moment of the target: injected when it is first true after `at`"),
    ] = None
    within: Annotated[
        Seconds | None, Field(gt=0, description="How long to wait for `when` (15s unless given)")
    ] = None
    every: Annotated[Seconds | None, Field(gt=0, description="Distance of the repetitions")] = None
    repeat: Annotated[StrictInt | None, Field(ge=1, le=MAX_REPEAT, description="How many times in all")] = (
        None
    )
    jitter: Annotated[
        Seconds | None, Field(gt=0, description="Each time comes up to this much later, drawn from the seed")
    ] = None

    @property
    def own(self) -> dict[str, Any]:
        """The fault's own keys, as written."""
        return dict(self.model_extra or {})


COMMON_KEYS = tuple(field.alias or name for name, field in WrittenFault.model_fields.items())


class WrittenJob(Written):
    at: Annotated[Seconds, Field(description="From the end of steady")]
    run: Annotated[NonEmpty, Field(description="A batch job of the target")]


class WrittenExperiment(Written):
    name: Annotated[
        StrictStr,
        Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$", description="Small letters, digits, hyphens"),
    ]
    title: Annotated[NonEmpty, Field(description="One sentence: what happens")]
    concerns: Annotated[
        tuple[Annotated[StrictInt, Field(ge=1, le=42)], ...],
        Field(description="Rows 1 to 42 of the table of concerns that this answers"),
    ] = ()
    target: Annotated[NonEmpty, Field(description="A folder below targets/, or a path")]
    settings: Annotated[
        dict[NonEmpty, dict[NonEmpty, Setting]],
        Field(description="The target's own settings, for this run: service, variable, value"),
    ] = {}
    load: WrittenLoad
    steady: Annotated[Seconds, Field(ge=1, description="Load before the first fault: the baseline")]
    faults: tuple[WrittenFault, ...] = ()
    jobs: tuple[WrittenJob, ...] = ()
    recover_within: Annotated[
        Seconds, Field(gt=0, description="How long load goes on at most, waiting for recovery")
    ] = 30.0
    recovered: Annotated[Seconds, Field(gt=0, description="How long load goes on after recovery")] = 10.0
    settle_within: Annotated[
        Seconds, Field(gt=0, description="How long after the load pending work may take to finish")
    ] = 30.0
    expect: Annotated[
        tuple[NonEmpty, ...], Field(min_length=1, description="Objectives and invariants, one a line")
    ]


class WrittenSuite(Written):
    suite: Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$", description="The suite's name")]
    title: NonEmpty | None = None
    experiments: Annotated[
        tuple[NonEmpty, ...], Field(min_length=1, description="Files, or names without .yaml")
    ]
