"""What is nothing but its attributes."""

from __future__ import annotations

from typing import Any, ClassVar, Self


class Value:
    """Equal to what is of its class and has the same attributes; nobody changes them.

    A class of its own with an `__init__` for what every event makes: it is made in 0.1 µs, and in
    0.03 where it is compiled. A NamedTuple takes 0.18 and 0.14, a frozen dataclass more.
    """

    __slots__ = ()

    #: Its attributes, in the order of the arguments of its `__init__`.
    NAMES: ClassVar[tuple[str, ...]] = ()

    def values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.NAMES])

    def but(self, **other: Any) -> Self:
        """The same with some attributes other than its own."""
        own = dict(zip(self.NAMES, self.values(), strict=True))
        return type(self)(**{**own, **other})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (type(self), self.values()) == (
            type(other),
            other.values(),
        )

    def __hash__(self) -> int:
        return hash(self.values())

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self.values()

    def __repr__(self) -> str:
        said = zip(self.NAMES, self.values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in said)})"
