"""What a run stands on, from the first process to the last: brought up in order, taken down in reverse.

The order is the safety: the supervisor, which outlives the harness and removes everything, is up before
anything else; the journal is open before anything can be broken.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from harness.errors import LinkError
from harness.evidence.model import Death
from harness.experiment.target import Mutant, TargetSpec
from harness.run.afterwards import Afterwards
from harness.run.ground import Ground, Groundwork
from harness.run.journal import Journal
from harness.target.readiness import last_lines
from harness.target.runtime import Runtime
from harness.target.supervisor import Supervisor
from harness.toxiproxy.engine import RunningEngine
from harness.toxiproxy.links import EngineRestart, LinkLayer


class Stage:
    """Context manager around everything a run starts. ``come_up`` inside it; leaving removes all."""

    supervisor: Supervisor
    engine: RunningEngine
    links: LinkLayer
    runtime: Runtime
    journal: Journal

    def __init__(
        self,
        spec: TargetSpec,
        run_id: str,
        seed: int,
        ground: Ground,
        mutant: Mutant | None,
        logs: Path,
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._run_id = run_id
        self._seed = seed
        self._ground = ground
        self._mutant = mutant
        self._logs = logs
        self._say = say
        self._engine_death: Death | None = None  # the first one; the run ends with it
        self._mended = False
        self._undo = Afterwards()

    def __enter__(self) -> Stage:
        return self

    def come_up(self, stopping: Callable[[], bool]) -> None:
        """Reaper, journal, engine, proxies, target. Raises NotReady, LinkError, Aborted."""
        self.supervisor = Supervisor.start(self._run_id)
        self._undo.callback(self.supervisor.close)
        scratch = self.supervisor.scratch
        self.journal = Journal(scratch / "journal.jsonl")
        self._undo.callback(self.journal.close)
        self._undo.callback(self._keep_logs, scratch)
        deployed = self._ground.break_ground(
            Groundwork(
                self._spec,
                self.supervisor,
                self._seed,
                self._mutant,
                self._say,
                self._undo.callback,
                self._note_restart,
                stopping,
            )
        )
        self.runtime, self.engine, self.links = deployed.runtime, deployed.engine, deployed.links
        self.runtime.deploy(stopping)

    def _note_restart(self, restart: EngineRestart) -> None:
        """A replaced engine broke every connection, uninvited: that is a death like any other."""
        self._say(f"the Toxiproxy engine was replaced: {restart.cause}")
        self._note(Death(service="toxiproxy", at_ns=restart.at_ns, exit_code=None, last_log=restart.cause))

    def _note(self, death: Death) -> None:
        self._engine_death = self._engine_death or death

    def _look_at_engine(self) -> Death | None:
        if not self.engine.alive():
            code, said = self.engine.fallen(), last_lines(self.engine.log)
            self._note(Death(service="toxiproxy", at_ns=time.time_ns(), exit_code=code, last_log=said))
        return self._engine_death

    def deaths(self) -> tuple[Death, ...]:
        """Everything that ended uninvited, the link engine included. Ask when no fault is at work."""
        engine = self._look_at_engine()
        return (*self.runtime.deaths(), *([engine] if engine else []))

    def fallen(self) -> str | None:
        """Why there is no use in going on: what the evidence rests on has ended uninvited.

        Without the engine every link is refused, a replaced one broke every connection, and without a
        witness nothing proves what happened outside: none of these says anything about the target.
        """
        deaths = self.runtime.deaths()
        if engine := self._look_at_engine():
            if engine.exit_code is None:
                return f"the Toxiproxy engine ended or fell silent: {engine.last_log}"
            return f"the Toxiproxy engine ended uninvited, exit code {engine.exit_code}"
        for death in deaths:
            if death.service in self._spec.witnesses:
                return f"the witness {death.service} ended uninvited, exit code {death.exit_code}"
        return None

    def mend(self) -> None:
        """Replace an engine that has ended, once, so that the target can settle.

        Ask when no fault is at work; one that was healed through the engine has replaced it already.
        """
        if self._mended or self.engine.alive():
            return
        self._mended = True
        self._look_at_engine()
        try:
            self.links.recover("it had ended uninvited")
        except LinkError as error:
            self._say(f"the target stays without links: {error.message}")

    def _keep_logs(self, scratch: Path) -> None:
        """Logs are evidence: they move to the run folder before the scratch folder goes."""
        for log in sorted((scratch / "logs").glob("*.log")):
            shutil.copyfile(log, self._logs / log.name)

    def versions(self) -> Mapping[str, str]:
        return {**self.runtime.versions(), "toxiproxy": self.engine.label}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.__exit__(kind, value, trace)
