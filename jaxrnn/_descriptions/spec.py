"""The description of a cell, a layer or an unroll: its factory and its arguments.

:func:`described` decorates a factory, such as ``lstm``. What the factory returns then
has a ``spec``, from which follow its ``repr``, its equality and hash, its pickle and
its JSON. So two cells that were made alike share compiled programs, and a file can say
which model its parameters belong to.
"""

import functools
import inspect
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from .._options import check_option
from .arguments import Partial, UndescribableError, canonical, code, pack, same, unpack
from .known import name_of, public_name, register

P = ParamSpec("P")
R = TypeVar("R")

SIGNATURES: dict[str, inspect.Signature] = {}
FACTORIES: dict[str, Callable[..., Any]] = {}


class Spec(NamedTuple):
    """Name of a factory and the arguments of one call, including defaults.

    Equal descriptions describe equal objects. An argument is None, a bool, a number, a
    string, a function, another described object, or a tuple of these.
    """

    factory: str
    """For instance ``jaxrnn.lstm``."""
    arguments: tuple[tuple[str, Any], ...]
    """Pairs of name and value, in the order of the signature."""

    def __repr__(self) -> str:
        """Return the call that makes the object, without arguments at their default."""
        parameters = SIGNATURES[self.factory].parameters
        words = []
        by_position = True
        for name, value in self.arguments:
            parameter = parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                words += map(code, value)
                continue
            if parameter.default is not parameter.empty:
                by_position = False
                if same(value, parameter.default):
                    continue
            by_position &= parameter.kind is not parameter.KEYWORD_ONLY
            words.append(code(value) if by_position else f"{name}={code(value)}")
        return f"{self.factory}({', '.join(words)})"

    def build(self) -> Any:
        """Call the factory with the arguments.

        Returns:
            An object equal to the one that is described.
        """
        parameters = SIGNATURES[self.factory].parameters
        arguments, options = [], {}
        for name, value in self.arguments:
            kind = parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                arguments += value
            elif kind is inspect.Parameter.POSITIONAL_ONLY:
                arguments.append(value)
            else:
                options[name] = value
        return FACTORIES[self.factory](*arguments, **options)

    def to_json(self, **options: Any) -> str:
        """Write the description as JSON, which :func:`from_spec` reads.

        Args:
            **options: of ``json.dumps``, such as ``indent``.

        Raises:
            TypeError: an argument is a function that the library cannot name, or a cell
                or layer that was not made by a factory.

        >>> import jaxrnn
        >>> jaxrnn.elman(5).spec.to_json()[:59]
        '{"factory": "jaxrnn.elman", "arguments": {"hidden_size": 5,'
        """
        description = plain(self)
        unnamed = _unnamed("", description)
        if unnamed is not None:
            where, name = unnamed
            raise TypeError(
                f"{where} must be a value that can be written to a file, such as "
                f"jax.numpy.tanh or a cell of jaxrnn, got {name}"
            )
        return json.dumps(description, **options)


def spec_of(value: Any) -> Spec | None:
    """Return the description of a value; None if it has no description."""
    spec = getattr(value, "spec", None)
    return spec if isinstance(spec, Spec) else None


def described(factory: Callable[P, R]) -> Callable[P, R]:
    """Decorate a factory so that its results have a ``spec``.

    Args:
        factory: a function that returns a NamedTuple with a field ``spec``, or a
            function.

    Returns:
        The factory. If an argument cannot be described, an array for instance, ``spec``
        is None.
    """
    return _described(factory, public_name(factory))


def described_in(module: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Like :func:`described`, for a factory that users find in ``module``."""
    return lambda factory: _described(factory, f"jaxrnn.{module}.{factory.__name__}")


def _described(factory: Callable[P, R], name: str) -> Callable[P, R]:
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return factory(*args, **kwargs)  # and Python says which argument it is
        bound.apply_defaults()
        # The factory's own checks come first, as their messages say more.
        made: Any = factory(*args, **kwargs)
        for argument, value in bound.arguments.items():
            check_option(argument, value, signature.parameters[argument].annotation)
        try:
            arguments = tuple((k, canonical(v)) for k, v in bound.arguments.items())
        except UndescribableError:
            return made
        spec = Spec(name, arguments)
        named: Any = DescribedFunction
        return made._replace(spec=spec) if hasattr(made, "spec") else named(made, spec)

    SIGNATURES[name], FACTORIES[name] = signature, make
    register(name, make)  # multihead takes a factory as an argument
    return make


class DescribedFunction:
    """Function with a description; it equals another one of the same description."""

    def __init__(self, function: Callable[..., Any], spec: Spec):
        functools.update_wrapper(self, function)
        self.function = function
        self.spec = spec

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DescribedFunction) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __reduce__(self) -> Any:
        return _unpickled, packed(self.spec)


def plain(value: Any) -> Any:
    """Return a value as lists, dicts, strings and numbers, as JSON has them.

    What JSON cannot name, such as a function of the user, is ``{"unnamed": ...}``.
    """
    if isinstance(value, Spec):
        arguments = {name: plain(argument) for name, argument in value.arguments}
        return {"factory": value.factory, "arguments": arguments}
    if isinstance(value, Partial):
        return {
            "partial": plain(value.function),
            "arguments": plain(value.arguments),
            "options": {name: plain(option) for name, option in value.options},
        }
    if spec_of(value) is not None:
        return plain(spec_of(value))
    if type(value) is tuple:
        return [plain(each) for each in value]
    name = name_of(value)
    if name is not None:
        return {"function": name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return {"unnamed": code(value)}


def _unnamed(where: str, description: Any) -> tuple[str, str] | None:
    """Find the first part that JSON cannot name; return its path and its code."""
    if isinstance(description, list):
        parts = [(f"{where}[{i}]", part) for i, part in enumerate(description)]
    elif not isinstance(description, dict):
        return None
    elif "unnamed" in description:
        return where, description["unnamed"]
    elif "factory" in description:
        named = description["arguments"].items()
        parts = [(f"{where}.{name}".removeprefix("."), part) for name, part in named]
    else:
        parts = [(where, part) for part in description.values()]
    found = (_unnamed(*part) for part in parts)
    return next((each for each in found if each is not None), None)


def packed(spec: Spec) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """Return a description in a form that can be pickled."""
    return spec.factory, tuple((k, pack(v)) for k, v in spec.arguments)


def _unpickled(factory: str, arguments: tuple[tuple[str, Any], ...]) -> Any:
    return Spec(factory, tuple((k, unpack(v)) for k, v in arguments)).build()


class Described:
    """Mixin of NamedTuples that a factory returns, with a last field ``spec``."""

    __slots__ = ()

    def __repr__(self: Any) -> str:
        if self.spec is not None:
            return repr(self.spec)
        fields = [
            f"{name}={code(value)}"
            for name, value in self._asdict().items()
            if value is not None
        ]
        return f"{type(self).__name__}({', '.join(fields)})"

    def __eq__(self: Any, other: Any) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        if self.spec is not None or other.spec is not None:
            return self.spec == other.spec
        return tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self: Any) -> int:
        return tuple.__hash__(self) if self.spec is None else hash(self.spec)

    def __reduce__(self: Any) -> Any:
        if self.spec is None:
            return type(self), tuple(self)
        return _unpickled, packed(self.spec)

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # it holds only functions and sizes, which cannot change

    def _replace(self, **changes: Any) -> Any:
        """Return a copy with other fields, and without a description."""
        return super()._replace(**{"spec": None} | changes)  # type: ignore
