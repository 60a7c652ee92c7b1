"""Work shared over threads in blocks of fixed size, so that the result never depends on their number."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba.core import config

__all__ = ["for_blocks"]


WORTH_S = 1e-3
"""Work, in seconds of one thread, under which starting others takes longer than they save."""


def for_blocks(work: Callable[[int, int], None], total: int, size: int, one_thread_s: float = 1.0) -> None:
    """Call ``work(start, stop)`` for each block of at most `size` of ``range(total)``.

    The blocks depend on `total` and `size` alone. They run on ``NUMBA_NUM_THREADS`` threads (all cores by
    default), or on the caller's if `one_thread_s`, a guess of what all blocks take, is under a millisecond; `work` must
    write to a place of its own and release the interpreter's lock.
    """
    blocks = [(start, min(start + size, total)) for start in range(0, total, size)]
    # Not numba.get_num_threads(): that starts numba's own threads, and with them sets the number of torch's.
    threads = min(config.NUMBA_NUM_THREADS, len(blocks))  # pyright: ignore[reportAttributeAccessIssue]
    if threads <= 1 or one_thread_s < WORTH_S:
        for start, stop in blocks:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in blocks]:
            done.result()
