"""Reports of a stored run: Markdown, JUnit and HTML, from its folder alone.

This room only renders what others judged. It imports no room that touches a target, so that any stored
run can be rendered again anywhere. A new format is one module with ``write(run)`` and one entry below.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.report import html, junit, summary
from harness.report.reading import Run, read_run

# The cheap ones first: whatever happens to the page, the gate has its files.
FORMATS: tuple[Callable[[Run], list[Path]], ...] = (summary.write, junit.write, html.write)


def render(folder: Path) -> list[Path]:
    """Write every format into a run folder; returns the files, in the order of ``FORMATS``.

    Missing or damaged evidence is named in the reports. Raises OSError when a file cannot be written.
    """
    run = read_run(folder)
    return [file for write in FORMATS for file in write(run)]
