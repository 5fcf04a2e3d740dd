"""Copies of a function for different kinds of values.

CPython specialises the instructions of a function for the types that they meet: a field of a struct then takes a fifth of what it
takes where another struct comes each time. A loop that all exchanges share is specialised for none of their rows; a copy for each is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from types import FunctionType
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

KINDS = 256
"""Copies that are kept for further use."""


def copy_for(kind: Hashable, function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """The function as it serves one kind of values: the same copy for the same kind."""
    assert isinstance(function, FunctionType)
    found: Callable[Given, Returned] = _copy(kind, function)
    return found


@lru_cache(maxsize=KINDS)
def _copy(kind: Hashable, function: FunctionType) -> FunctionType:
    code = function.__code__.replace()  # what the interpreter has learned belongs to the code
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
