"""Many calls at once: their results, or the first error once none is left running."""

from __future__ import annotations

import asyncio

import pytest

from billing.common import all_ended

ended: list[str] = []


async def call(name: str, takes_s: float = 0.0, error: BaseException | None = None) -> str:
    try:
        await asyncio.sleep(takes_s)
    finally:
        ended.append(name)
    if error is not None:
        raise error
    return name


@pytest.fixture(autouse=True)
def nothing_ended() -> None:
    ended.clear()


def test_the_results_are_in_the_order_of_the_calls() -> None:
    assert asyncio.run(all_ended([call("a", 0.02), call("b")])) == ["a", "b"]
    assert ended == ["b", "a"]
    assert asyncio.run(all_ended([])) == []


@pytest.mark.parametrize("error", [ValueError("b"), asyncio.CancelledError("b")])
def test_the_first_error_is_raised_when_all_have_ended(error: BaseException) -> None:
    calls = [call("a", 0.05), call("b", 0.02, error), call("c", 0.0, KeyError("c"))]
    with pytest.raises(type(error)):
        asyncio.run(all_ended(calls))
    assert ended == ["c", "b", "a"]


def test_who_gives_up_leaves_none_running() -> None:
    async def give_up() -> None:
        async with asyncio.timeout(0.02):
            await all_ended([call("a", 60), call("b", 60)])

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert ended == ["a", "b"]
