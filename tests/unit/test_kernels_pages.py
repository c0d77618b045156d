"""Arrays with pages of their own: they take memory as they are written to and give it back before they end."""

import sys
from pathlib import Path

import numpy as np
import pytest

from reluscope.kernels.pages import MIN_BYTES, paged_array, release_before


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.parametrize("shape", [(0,), (3,), (5, 2), (0, 3), (MIN_BYTES // 8,), (MIN_BYTES // 4, 3)])
def test_an_array_has_its_shape_and_can_be_written(shape):
    array = paged_array(shape, np.int64)
    assert array.shape == shape
    assert array.dtype == np.int64
    array[...] = 7
    assert (array == 7).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and needs madvise")
def test_pages_come_when_written_and_go_when_released():
    before = resident()
    array = paged_array((8 * MIN_BYTES, 4), np.uint8)  # 32 MB
    assert resident() - before < 2 * MIN_BYTES
    array[...] = 1
    assert resident() - before > 30 * MIN_BYTES
    release_before(array, 4 * MIN_BYTES)
    assert resident() - before < 18 * MIN_BYTES
    assert (array[4 * MIN_BYTES :] == 1).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs madvise")
def test_rows_from_the_given_one_on_are_kept_to_the_byte():
    array = paged_array((MIN_BYTES, 3), np.int64)
    array[...] = np.arange(array.size).reshape(array.shape)
    for row in (0, 1, 1000, 700_001, len(array)):
        release_before(array, row)
        assert np.array_equal(array[row:].reshape(-1), np.arange(3 * row, array.size))


def test_a_view_gives_back_what_lies_before_it_too():
    array = paged_array((MIN_BYTES,), np.int64)
    array[...] = 1
    release_before(array[1000:], 5000)
    assert (array[6000:] == 1).all()


def test_an_array_of_the_heap_is_left_alone():
    array = np.ones(2 * MIN_BYTES)
    release_before(array, len(array))
    assert (array == 1).all()
