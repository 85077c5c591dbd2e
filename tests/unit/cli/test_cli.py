"""The command line: what it prints, how it ends, how fast it is, and that nothing starts on bad input."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import click
import pytest
from rich.console import Console

from harness import cli
from harness.cli.files import load_all, worst_exit
from harness.cli.timeline import show_plan
from harness.errors import EnvironmentBroken, ExperimentError, LedgerquakeError
from harness.evidence.folder import RunFolder
from harness.plan import make_plan

ROOT = Path(__file__).resolve().parents[3]
BASELINE = (ROOT / "experiments" / "db-primary-crash.yaml").read_text(encoding="utf-8")
LIMIT_S = 2.0

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ledgerquake(tmp_path: Path) -> Run:
    """The command in a process of its own, in an empty project that uses the repository's target."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "targets").symlink_to(ROOT / "targets")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=30,
        )

    return run


def faster_than(run: Run, limit_s: float, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The result, when one of two tries needs less processor time, and waits for no more than that.

    The machine may be busy, the command may not: so the clock on the wall is only a coarse second bound.
    """
    for _ in range(2):
        started, used_s = time.monotonic(), processor_s()
        done = run(*arguments)
        if processor_s() - used_s < limit_s and time.monotonic() - started < 5 * limit_s:
            return done
    raise AssertionError(f"took more than {limit_s} s twice: {arguments}")


def processor_s() -> float:
    """What all children that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def place_of(text: str, piece: str) -> str:
    before = text[: text.index(piece)]
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


@pytest.mark.parametrize(
    ("right", "wrong", "points_at", "says"),
    [
        ("steady: 8s", "stedy: 8s", "stedy", ["unknown key 'stedy'", "did you mean 'steady'?"]),
        ("fault: crash", "fault: crahs", "crahs", ["unknown fault 'crahs'", "did you mean 'crash'?"]),
        ("service: db-primary", "service: db-primry", "db-primry", ["'db-primry'", "'db-primary'?"]),
        ("for: 26s", "for: 26 parsecs", "26 parsecs", ["'26 parsecs'", "units are ms, s, m, h"]),
        ("payments.recovery <=", "payments.recvery <=", "recvery", ["'recvery'", "did you mean 'recovery'?"]),
        ("target: billing", "target: biling", "biling", ["no target 'biling'", "did you mean 'billing'?"]),
        ("steady: 8s", "steady: 8s\nsteady: 9s", "steady: 9s", ["the key 'steady' stands twice", "line 1"]),
        ("steady: 8s", "steady: &x 8s", "&x", ["an anchor (&x)", "not allowed"]),
        ("  rate: 60/s", "\trate: 60/s", "\trate", ["a tab in the indentation", "spaces"]),
    ],
)
def test_bad_input_ends_with_2_at_once_and_starts_nothing(
    ledgerquake: Run, tmp_path: Path, right: str, wrong: str, points_at: str, says: list[str]
) -> None:
    text = BASELINE.replace(right, wrong, 1)
    file = tmp_path / "experiments" / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    done = faster_than(ledgerquake, LIMIT_S, "run", str(file))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"{file}:{place_of(text, points_at)}: ")
    for piece in says:
        assert piece in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiments", "targets"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x7fELF\0\0", "1:5: this is a binary file"),
        (b"a" * (3 * 1024 * 1024), "1:1: the file is too large: 3,145,728 bytes"),
        (b"[" * 100_000, "1:65: nesting deeper than 64"),
        (b"name: \xff", "1:7: byte 0xff is not UTF-8"),
        (b"", "1:1: the file is empty"),
        (b"- a\n- b\n", "1:1: ['a', 'b'] is not an experiment"),
        (None, "1:1: there is no such file"),
    ],
)
def test_what_is_no_experiment_at_all(
    ledgerquake: Run, tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "experiments" / "bad.yaml"
    if content is not None:
        file.write_bytes(content)
    done = faster_than(ledgerquake, LIMIT_S, "run", str(file))
    assert done.returncode == 2
    assert f"{file}:{says}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "x", "--seed", "many"], "'many' is not a valid integer"),
        (["run", "x", "--toxiproxy", "magic"], "'magic' is not one of"),
        (["run", "nothing-of-that-name"], "no experiment is called 'nothing-of-that-name'"),
        (["run", "good", "--set", "load.rate=fast"], "--set load.rate=fast:1:11: load.rate: 'fast'"),
        (["run", "good", "--mutant", "ack-before-comit"], "did you mean 'ack-before-commit'?"),
        (["check", "no-such-run"], "no stored run 'no-such-run'"),
        (["report", "experiments"], "is not a run folder"),
        (["list", "invariants", "--target", "biling"], "did you mean 'billing'?"),
        (["validate", "x" * 300], f"no experiment is called '{'x' * 300}'"),
        (["validate", "x" * 300 + ".yaml"], ".yaml:1:1: cannot be read: File name too long"),
        (["check", "x" * 300], f"no stored run '{'x' * 300}'"),
        (["plan", "good", "--set", f"target={'x' * 300}"], f"no target '{'x' * 300}'"),
        (["plan", "good", "--set", f"faults.{'9' * 5000}.for=1s"], "'faults' has no element '999"),
        (["validate", "suite-of-dot"], "suite-of-dot.yaml:2:15: no experiment '.'"),
        (["validate", "suite-of-long"], "suite-of-long.yaml:2:15: no experiment 'ééé"),
    ],
)
def test_wrong_usage_ends_with_2(ledgerquake: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    home = tmp_path / "experiments"
    (home / "good.yaml").write_text(BASELINE, encoding="utf-8")
    (home / "suite-of-dot.yaml").write_text("suite: x\nexperiments: [.]\n")
    (home / "suite-of-long.yaml").write_text(f"suite: x\nexperiments: [{'é' * 150}]\n", encoding="utf-8")
    done = ledgerquake(*arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "reports").exists()


def test_validate_tells_of_every_file_and_every_mistake(ledgerquake: Run, tmp_path: Path) -> None:
    home = tmp_path / "experiments"
    (home / "good.yaml").write_text(BASELINE, encoding="utf-8")
    (home / "bad.yaml").write_text(BASELINE.replace("rate: 60/s", "rate: 60").replace("hold", "holdd"))
    (home / "suites").mkdir()
    (home / "suites" / "all.yaml").write_text("suite: all\nexperiments: [good, bad, godo]\n")
    done = ledgerquake("validate", "good", "experiments/bad.yaml", "all")
    assert done.returncode == 2
    assert done.stdout.count(": ok: ") == 1
    assert "bad.yaml:" in done.stderr
    assert "60 has no unit" in done.stderr
    assert "expected 'hold' at the end" in done.stderr
    assert "all.yaml:2:26: no experiment 'godo'" in done.stderr
    assert "did you mean 'good'?" in done.stderr


def test_run_with_json_tells_bad_input_as_json_too(ledgerquake: Run, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "bad.yaml").write_text("name: x\ntarget: billing\n")
    done = ledgerquake("run", "bad", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_code"] == 2
    assert answer["runs"] == []
    assert "the key 'load' is missing" in answer["error"]


def test_the_kept_source_repeats_a_run_with_its_overrides(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BASELINE.replace("target: billing", f"target: {ROOT / 'targets' / 'billing'}"))
    (plain,) = load_all([str(file)])
    assert plain.source == file.read_text()
    (changed,) = load_all([str(file)], ["load.rate=50/s", "title='NO'"])
    assert changed.experiment.load.rate_per_s == 50
    (tmp_path / "kept.yaml").write_text(changed.source)
    (again,) = load_all([str(tmp_path / "kept.yaml")])
    assert again.experiment == changed.experiment
    assert changed.source.startswith("# mine.yaml with\n# --set load.rate=50/s\n")


def test_settings_reach_the_target_the_stored_copy_the_plan_and_the_repetition(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = BASELINE.replace("target: billing", f"target: {ROOT / 'targets' / 'billing'}")
    file.write_text(f"{text}settings:\n  payments: {{PSP_A_URL: 'http://psp-b:8080'}}\n")
    (loaded,) = load_all([str(file)])
    url = "http://psp-b:8080"
    assert loaded.spec.services["payments"].environment["PSP_A_URL"] == url
    folder = RunFolder.create(tmp_path, "run")
    folder.copy_target(loaded.spec)
    assert folder.read_target().services["payments"].environment["PSP_A_URL"] == url
    made = make_plan(loaded.experiment, loaded.vocabulary, 1)
    assert made.settings == {"payments": {"PSP_A_URL": url}}
    said = StringIO()
    show_plan(loaded.experiment, made, Console(file=said, width=120))
    assert f"setting payments: PSP_A_URL={url}\n" in said.getvalue()
    (without,) = load_all([str(file)], ["settings={}"])
    assert without.spec.services["payments"].environment["PSP_A_URL"] == "http://psp-a:8080"
    (changed,) = load_all(
        [str(file)], ["settings.edge.LISTEN=0.0.0.0:8080", "settings.payments.PSP_B_URL=007"]
    )
    (tmp_path / "kept.yaml").write_text(changed.source)
    (again,) = load_all([str(tmp_path / "kept.yaml")])
    assert again.experiment == changed.experiment
    assert again.spec.services["payments"].environment["PSP_B_URL"] == "007"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("http://gateway:8090", "gateway:8090 is no declared link"),
        ("0.0.0.0:1", "payments does not expose port 1"),
    ],
)
def test_a_setting_that_leads_past_the_proxies_is_refused(tmp_path: Path, value: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    text = BASELINE.replace("target: billing", f"target: {ROOT / 'targets' / 'billing'}")
    text += f"settings:\n  payments: {{PSP_A_URL: '{value}'}}\n"
    file.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        load_all([str(file)])
    assert says in caught.value.message
    assert str(caught.value).startswith(f"{file}:{place_of(text, value)}: ")


@pytest.mark.parametrize("overrides", [(), ("load.rate=50/s",)])
def test_a_target_named_by_a_relative_path_is_found_from_the_kept_file(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.yaml"
    way = os.path.relpath(ROOT / "targets" / "billing", tmp_path)
    file.write_text(BASELINE.replace("target: billing", f"target: {way}"))
    (first,) = load_all([str(file)], overrides)
    kept = tmp_path / "reports" / "run" / "experiment.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text(first.source)
    (again,) = load_all([str(kept)])
    assert Path(again.spec.folder).resolve() == Path(first.spec.folder).resolve()
    assert again.experiment.load == first.experiment.load
    if not overrides:  # nothing but its line is changed
        pairs = zip(BASELINE.splitlines(), first.source.splitlines(), strict=True)
        assert sum(was != now for was, now in pairs) == 1


def test_plan_is_the_same_for_the_same_seed(ledgerquake: Run, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "good.yaml").write_text(BASELINE, encoding="utf-8")
    done = ledgerquake("plan", "good", "--seed", "5", "--json")
    plan = json.loads(done.stdout)
    assert (plan["seed"], plan["faults"][0]["id"]) == (5, "f1-crash")
    assert ledgerquake("plan", "good", "--seed", "5", "--json").stdout == done.stdout
    shown = ledgerquake("plan", "good", "--seed", "5").stdout
    for piece in ("f1-crash", "db-primary", "34s", "seed 5", "expect  invariants hold"):
        assert piece in shown


def test_what_will_be_missed_is_told_and_is_no_error(ledgerquake: Run, tmp_path: Path) -> None:
    file = tmp_path / "experiments" / "thin.yaml"
    file.write_text(BASELINE.replace("steady: 8s", "steady: 1s"), encoding="utf-8")
    told = "experiments/thin.yaml: warning: balance will have about 12 operations in steady"
    for command in (("validate", "thin"), ("plan", "thin"), ("plan", "thin", "--json")):
        done = ledgerquake(*command)
        assert done.returncode == 0, done.stderr
        assert told in done.stderr and told not in done.stdout
    told_first = ledgerquake("run", "thin", "--runtime", "docker", "--docker-host", "unix:///nowhere")
    assert told in told_first.stderr and told_first.returncode == 4


def test_the_catalogue(ledgerquake: Run, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "good.yaml").write_text(BASELINE, encoding="utf-8")
    (tmp_path / "experiments" / "bad.yaml").write_text("name: x\n")
    (tmp_path / "experiments" / "suites").mkdir()
    suite = tmp_path / "experiments" / "suites" / "all.yaml"
    suite.write_text("suite: all\ntitle: All of it\nexperiments: [good]\n")
    listed = [line.split("\t") for line in ledgerquake("list", "experiments").stdout.splitlines()]
    assert [line[:2] for line in listed] == [["bad", "NOT VALID"], ["good", "billing"], ["all", "suite"]]
    assert listed[-1][2] == "All of it: db-primary-crash"
    assert "crash\tlifecycle\tfor service" in ledgerquake("list", "faults").stdout
    assert "PAY1\tbilling\ttopup" in ledgerquake("list", "invariants").stdout
    assert "<function>_outage_s\tevery\ts\talways\tOutage" in ledgerquake("list", "figures").stdout
    assert re.match(r"billing\t\d+ services, \d+ links\tpayments, ", ledgerquake("list", "targets").stdout)
    assert ledgerquake("list", "runs").stderr == "none in reports/\n"


def test_doctor_finds_what_a_run_needs(ledgerquake: Run) -> None:
    done = ledgerquake("doctor")
    assert done.returncode == 0, done.stderr
    assert "Toxiproxy" in done.stdout
    assert "MISSING" not in done.stdout


def test_help_is_fast_and_imports_nothing_heavy(ledgerquake: Run) -> None:
    done = ledgerquake("--help")  # the first compiles what another Python has not compiled yet
    assert done.returncode == 0
    assert all(name in done.stdout for name in cli.COMMANDS)
    faster_than(ledgerquake, 1.0, "--help")
    loaded = imported("-m", "harness.cli", "run", "--help")
    assert "click" in loaded
    for heavy in ("duckdb", "pyarrow", "locust", "gevent", "requests", "psycopg", "rich", "jinja2"):
        assert heavy not in loaded


def test_what_is_imported_is_seen() -> None:
    assert "msgpack" in imported("-c", "from msgpack import Packer")


def imported(*arguments: str) -> set[str]:
    """The modules that a Python process imports, by their whole names."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    ).stderr  # fmt: skip
    return set(re.findall(r"\|\s+(\S+)$", told, re.MULTILINE))


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(cli._Commands, "get_command", lambda self, ctx, name: broken)


def run_in_process(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (EnvironmentBroken("no port is free", hint="close something"), 4, "no port is free\n  hint: close"),
        (LedgerquakeError("it broke"), 4, "it broke"),
        (KeyboardInterrupt(), 130, "aborted"),
        (ZeroDivisionError("oh"), 4, "the harness broke: ZeroDivisionError: oh"),
    ],
)
def test_errors_become_messages_and_exit_codes(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fails_with(monkeypatch, error)
    assert run_in_process("doctor") == code
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told


def test_the_traceback_of_an_unforeseen_error_is_kept_and_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fails_with(monkeypatch, ZeroDivisionError("oh"))
    assert run_in_process("doctor") == 4
    (log,) = tmp_path.glob("ledgerquake-*.log")
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert str(log) in capsys.readouterr().err
    assert run_in_process("--debug", "doctor") == 4
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([0, 0], 0), ([0, 3], 3), ([3, 1, 0], 1), ([1, 4, 3], 4), ([4, 130], 130), ([], 0)],
)
def test_the_worst_exit_code_wins(codes: list[int], worst: int) -> None:
    assert worst_exit(codes) == worst
