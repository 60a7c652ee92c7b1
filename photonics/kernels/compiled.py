"""The compiler of the package's loops, whose results are cached on disk where a folder can be written."""

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numba
from numba.core.event import Event, Listener, register
from numba.extending import intrinsic

__all__ = ["compiled", "widen_vectors"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """Return a decorator that compiles a function with numba, without the interpreter's lock.

    In a read-only installation with a read-only home there is no place for numba's cache. The functions are then
    compiled anew in each process, and a warning says so.
    """
    options |= {"nogil": True, "no_cfunc_wrapper": True}  # nothing calls them from C

    def decorate(function: F) -> F:
        try:
            return cast(F, numba.njit(cache=True, **options)(function))
        except RuntimeError:
            warn_of_no_cache()
            return cast(F, numba.njit(**options)(function))

    return decorate


@cache
def warn_of_no_cache() -> None:
    """Warn once that each process compiles anew."""
    warnings.warn(
        "compiled code cannot be kept, because no folder can be written: each process compiles it anew, which takes "
        "several seconds; set NUMBA_CACHE_DIR to a folder of your own",
        RuntimeWarning,
        stacklevel=2,
    )


class FirstCompilation(Listener):
    """Tells why the first frame takes seconds: kernels that no earlier run has left are compiled."""

    def on_start(self, event: Event) -> None:
        """Tell that a kernel of this package is compiled; code that is loaded makes no event."""
        if event.data and event.data["dispatcher"].py_func.__module__.startswith("photonics."):
            tell_of_compilation()

    def on_end(self, event: Event) -> None:
        """Nothing to tell."""


@cache
def tell_of_compilation() -> None:
    """Tell once, on standard error unless the process has configured its logging."""
    logging.getLogger("photonics").warning(
        "opu-sim compiles its kernels for this processor (5 to 20 s, longer on a busy machine); later runs load them, "
        "if a folder can be written"
    )


register("numba:compile", FirstCompilation())


def allow_widest(typingctx):
    """Typing and code of `widen_vectors`."""

    def codegen(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own method refuses values
        return context.get_dummy_value()

    return numba.types.void(), codegen


widen_vectors = cast(Callable[[], None], intrinsic(allow_widest))
"""Let the compiled function that calls this use vectors of 512 bits, with the same results.

On Intel's processors LLVM keeps to 256 bits by itself, although they have wider vectors.
"""
