"""Work in blocks: each exactly once, the same blocks on any number of threads."""

import threading

import pytest

from photonics.threads import for_blocks


@pytest.mark.parametrize("count", [1, 2])
def test_every_item_once(set_threads, count):
    """The blocks tile the range and do not depend on the threads. Catches: a tail left out, blocks per thread."""
    set_threads(count)
    for total, size in [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 7)]:
        blocks = []
        for_blocks(lambda start, stop, blocks=blocks: blocks.append((start, stop)), total, size)
        assert sorted(blocks) == [(start, min(start + size, total)) for start in range(0, total, size)]


def test_threads_really_share_the_work(set_threads):
    """Two blocks wait for each other: one thread alone would never end. Catches: a pool of one."""
    set_threads(2)
    barrier = threading.Barrier(2, timeout=20)
    for_blocks(lambda *_: barrier.wait(), 2, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_an_exception_reaches_the_caller(set_threads, count):
    """Catches: an exception that is lost in a thread."""
    set_threads(count)

    def work(start, stop):
        raise ArithmeticError(start)

    with pytest.raises(ArithmeticError):
        for_blocks(work, 10, 2)
