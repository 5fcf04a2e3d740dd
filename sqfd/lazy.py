"""Attributes that are made when they are first asked for, and then kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value", covariant=True)


class lazy(Generic[Value]):  # noqa: N801  # used as a decorator, like the one whose place it takes
    """`functools.cached_property` without its lock.

    Up to Python 3.11 that one takes a lock for each value that it makes, which costs 5 µs; a live tick makes seven of them for
    each symbol. Who shares such an object between threads has to see to it that a value is not made twice.
    """

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[Value] | Value:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._make(instance)  # which hides this descriptor from then on
        return value
