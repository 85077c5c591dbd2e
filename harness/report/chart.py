"""Charts as SVG, drawn here so that they stand without JavaScript.

Each chart is one SVG stretched to the width of the page (``preserveAspectRatio="none"``, strokes do
not scale); its words lie beside it as HTML, so that they keep their size at any width. For that
reason patterns are horizontal lines only: those look the same however far the picture is stretched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.series import Channel, Series
from harness.report.words import plain

WIDTH = 1000  # user units across; down, a unit is a CSS pixel
TAG_ROWS_PX = 40
TITLE_PX = 38
AXIS_PX = 24


@dataclass(frozen=True)
class Label:
    """Words beside a chart: ``at`` is pixels from the top, or percent from the left."""

    at: float
    text: str
    row: int = 0


@dataclass(frozen=True)
class Span:
    """A shaded stretch of time; ``start_s`` and ``end_s`` from the start of load."""

    tag: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Panel:
    """One of the stacked plots: its frame, its title and its scale. Pixels from the top."""

    key: str
    title: str
    top: float
    height: float
    ticks: tuple[Label, ...]


@dataclass(frozen=True)
class Chart:
    """Everything the page needs of one function's chart."""

    name: str
    svg: Markup
    height: float
    panels: tuple[Panel, ...]
    x_ticks: tuple[Label, ...]
    tags: tuple[Label, ...]
    recovery: Label | None


def draw(
    name: str, channel: Channel, series: Series, spans: Sequence[Span], recovered_s: float | None
) -> Chart:
    """Draw the three plots of one function: throughput, success, latency."""
    top = _rate_ceiling(channel, series)
    low, high = _latency_decades(channel)
    bottom: float = TAG_ROWS_PX + TITLE_PX - 8
    rate = Panel("rate", "Operations per second", bottom, 130, _linear_ticks(bottom, 130, top))
    bottom += rate.height + TITLE_PX
    success = Panel("success", "Success, % of operations", bottom, 90, _linear_ticks(bottom, 90, 100))
    bottom += success.height + TITLE_PX
    title = "Latency from the intended send time (log scale)"
    latency = Panel("latency", title, bottom, 130, _log_ticks(bottom, 130, low, high))
    panels = (rate, success, latency)
    end = latency.top + latency.height
    body = [
        _shades(spans, series.end_s, TAG_ROWS_PX, end),
        *(_grid(panel) for panel in panels),
        *_stack(channel, series, rate, top),
        _line("ok-line", [channel.success(i) for i in range(series.buckets)], success, 0, 100),
        _line("p99", _log(channel.p99_ms), latency, low, high),
        _line("p50", _log(channel.p50_ms), latency, low, high),
        _recovery_line(recovered_s, series.end_s, TAG_ROWS_PX, end),
    ]
    svg = Markup(
        '<svg viewBox="0 0 {width} {height}" height="{height}" preserveAspectRatio="none" role="img"'
        ' aria-label="{label}">{body}</svg>'
    ).format(
        width=WIDTH, height=_px(end), label=plain(describe(name, channel, series)), body=Markup("").join(body)
    )
    return Chart(
        name=name,
        svg=svg,
        height=end + AXIS_PX,
        panels=panels,
        x_ticks=tuple(Label(100 * t / series.end_s, f"{t:g}") for t in time_ticks(series.end_s)),
        tags=tuple(_tags(spans, series.end_s)),
        recovery=_recovery_label(recovered_s, series.end_s),
    )


def describe(name: str, channel: Channel, series: Series) -> str:
    """The chart in one sentence, for those who cannot see it."""
    ok, fail, unknown = sum(channel.ok), sum(channel.fail), sum(channel.unknown)
    total = ok + fail + unknown
    share = f"{100 * ok / total:.2f} % ok" if total else "no operations"
    slowest = max((value for value in channel.p99_ms if value is not None), default=None)
    tail = f"; highest p99 {slowest:,.0f} ms" if slowest is not None else ""
    return (
        f"{name} over {series.end_s} seconds: {total:,} operations, {share}, "
        f"{fail:,} failed, {unknown:,} unknown{tail}"
    )


def time_ticks(end_s: float, most: int = 10) -> list[float]:
    """Round instants from 0 to ``end_s``, at most ``most`` + 1 of them."""
    rough = max(end_s, 1e-9) / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(f * magnitude for f in (1, 2, 5, 10) if f * magnitude >= rough)
    return [round(i * step, 9) for i in range(int(end_s / step) + 1)]


def _rate_ceiling(channel: Channel, series: Series) -> float:
    highest = max(channel.total(i) for i in range(series.buckets)) / series.width_s
    magnitude = 10.0 ** math.floor(math.log10(max(highest, 1)))
    return next(f * magnitude for f in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if f * magnitude >= highest)


def _latency_decades(channel: Channel) -> tuple[int, int]:
    """Whole decades of milliseconds, as exponents, that hold every value."""
    values = [value for value in (*channel.p50_ms, *channel.p99_ms) if value is not None and value > 0]
    if not values:
        return 0, 3
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _log(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else math.log10(max(value, 1e-3)) for value in values]


def _linear_ticks(top: float, height: float, ceiling: float) -> tuple[Label, ...]:
    return tuple(Label(top + height * (1 - part), f"{ceiling * part:g}") for part in (0, 0.5, 1))


def _log_ticks(top: float, height: float, low: int, high: int) -> tuple[Label, ...]:
    span = high - low
    stride = math.ceil(span / 5)
    return tuple(
        Label(top + height * (1 - (exponent - low) / span), _decade(exponent))
        for exponent in range(low, high + 1, stride)
    )


def _decade(exponent: int) -> str:
    return f"{10.0 ** (exponent - 3):g} s" if exponent >= 3 else f"{10.0**exponent:g} ms"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _shades(spans: Sequence[Span], end_s: float, top: float, bottom: float) -> Markup:
    """The time in which any fault was active; overlapping ones do not darken each other."""
    shape = Markup('<rect class="shade" x="{}" y="{}" width="{}" height="{}"/>')
    edge = Markup('<path class="shade-edge" d="M{} {}V{}M{} {}V{}"/>')
    drawn = []
    for start_s, stop_s in _united(spans):
        left, right = (WIDTH * min(max(t / end_s, 0), 1) for t in (start_s, stop_s))
        right = max(right, left + 2)
        drawn.append(shape.format(_px(left), _px(top), _px(right - left), _px(bottom - top)))
        drawn.append(edge.format(_px(left), _px(top), _px(bottom), _px(right), _px(top), _px(bottom)))
    return Markup("").join(drawn)


def _united(spans: Sequence[Span]) -> list[tuple[float, float]]:
    united: list[tuple[float, float]] = []
    for span in sorted(spans, key=lambda span: span.start_s):
        if united and span.start_s <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], span.end_s))
        else:
            united.append((span.start_s, span.end_s))
    return united


def _grid(panel: Panel) -> Markup:
    line = Markup('<path class="grid" d="M0 {y}H{width}"/>')
    return Markup("").join(line.format(y=_px(tick.at), width=WIDTH) for tick in panel.ticks)


def _stack(channel: Channel, series: Series, panel: Panel, ceiling: float) -> list[Markup]:
    """Ok at the bottom, unknown on it, fail on top, as filled steps."""
    base = [0.0] * series.buckets
    drawn = []
    for css, counts in (("ok", channel.ok), ("unknown", channel.unknown), ("fail", channel.fail)):
        heads = [low + count / series.width_s for low, count in zip(base, counts, strict=True)]
        if any(counts):
            drawn.append(_band(css, base, heads, panel, ceiling))
        base = heads
    return drawn


def _band(css: str, base: list[float], heads: list[float], panel: Panel, ceiling: float) -> Markup:
    step = WIDTH / len(base)

    def y(value: float) -> str:
        return _px(panel.top + panel.height * (1 - value / ceiling))

    there = [f"V{y(value)}H{_px((i + 1) * step)}" for i, value in enumerate(heads)]
    back = [f"V{y(value)}H{_px(i * step)}" for i, value in reversed(list(enumerate(base)))]
    return Markup('<path class="{}" d="M0 {}{}{}Z"/>').format(css, y(base[0]), "".join(there), "".join(back))


def _line(css: str, values: Sequence[float | None], panel: Panel, low: float, high: float) -> Markup:
    """A stepped line; a bucket without a value is a gap, never a zero."""
    step, drawn, pen_down = WIDTH / len(values), [], False
    for i, value in enumerate(values):
        if value is not None:
            y = _px(panel.top + panel.height * (1 - (value - low) / (high - low)))
            start = f"V{y}" if pen_down else f"M{_px(i * step)} {y}"
            drawn.append(f"{start}H{_px((i + 1) * step)}")
        pen_down = value is not None
    return Markup('<path class="line {}" d="{}"/>').format(css, "".join(drawn))


def _recovery_line(recovered_s: float | None, end_s: float, top: float, bottom: float) -> Markup:
    if recovered_s is None or not 0 <= recovered_s <= end_s:
        return Markup("")
    x = _px(WIDTH * recovered_s / end_s)
    return Markup('<path class="recovery" d="M{} {}V{}"/>').format(x, _px(top), _px(bottom))


def _recovery_label(recovered_s: float | None, end_s: float) -> Label | None:
    if recovered_s is None or not 0 <= recovered_s <= end_s:
        return None
    return Label(100 * recovered_s / end_s, f"recovered at {recovered_s:.1f} s")


def _tags(spans: Sequence[Span], end_s: float, apart_percent: float = 8) -> Iterable[Label]:
    """One tag at the start of each span; those that would lie on another are left to the timeline."""
    taken = -math.inf
    for span in sorted(spans, key=lambda span: span.start_s):
        at = 100 * min(max(span.start_s / end_s, 0), 1)
        if at - taken >= apart_percent:
            taken = at
            yield Label(at, span.tag)
