"""The slicer's arithmetic, for every length and setting."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.toxiproxy.builtin.stages import slices


@given(length=st.integers(0, 5000), average=st.integers(1, 300), variation=st.integers(0, 400))
def test_slices_cover_the_data_in_order_and_none_is_too_long(
    length: int, average: int, variation: int
) -> None:
    parts = slices(length, average, variation)
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert all(earlier[1] == later[0] for earlier, later in pairwise(parts))
    assert all(stop - start <= max(1, average + variation) for start, stop in parts)
    assert length == 0 or all(stop > start for start, stop in parts)
