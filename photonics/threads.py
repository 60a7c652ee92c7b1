"""Work in blocks of fixed size on several threads, so that the result does not depend on the number of threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits

__all__ = ["for_blocks", "one_blas_thread"]


MIN_WORK_S = 1e-3
"""Seconds of work above which a second thread is worthwhile; less work takes less time than starting a thread."""


one_blas_thread = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator that limits BLAS to one thread during a call, because its order of summation depends on their number."""


def for_blocks(work: Callable[[int, int], None], total: int, size: int, one_thread_s: float = 1.0) -> None:
    """Call ``work(start, stop)`` for each block of at most `size` of ``range(total)``.

    The blocks depend on `total` and `size` alone. They run on ``NUMBA_NUM_THREADS`` threads (all cores by default), or
    on the caller's thread if `one_thread_s`, an estimate of the time for all blocks, is under a millisecond. Each call
    of `work` must write to separate memory and release the interpreter's lock.
    """
    from numba.core import config  # loads numba

    blocks = [(start, min(start + size, total)) for start in range(0, total, size)]
    # Not numba.get_num_threads(), which starts numba's own threads and so changes the number of torch's.
    threads = min(config.NUMBA_NUM_THREADS, len(blocks))  # pyright: ignore[reportAttributeAccessIssue]
    if threads <= 1 or one_thread_s < MIN_WORK_S:
        for start, stop in blocks:
            work(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in blocks]:
            done.result()
