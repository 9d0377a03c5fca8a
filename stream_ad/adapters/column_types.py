"""Column types that behave the same on SQLite and PostgreSQL."""

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Double, Enum, Integer, Text
from sqlalchemy.types import TypeDecorator

#: a number that the database gives; SQLite counts in an "INTEGER PRIMARY KEY" only
Serial = BigInteger().with_variant(Integer(), "sqlite")

Json = JSON(none_as_null=True)


def to_json(value: object) -> str:
    """Strict JSON: NaN and infinity become null, numpy scalars numbers, paths text; keys keep their order."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def one_of(kind: type[StrEnum]) -> Enum:
    """A column of strings that Python sees as members of `kind`; its CHECK stands in the table."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


def is_one_of(column: str, values: type[StrEnum] | tuple[str, ...]) -> str:
    """The condition that `column` holds one of `values`, as SQL."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times; UTC inside. SQLite has no time zones, so they are taken off and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs a time zone, got {value!r}; use datetime.now(UTC)")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Real(TypeDecorator[float]):
    """float64; NaN is NULL on both databases (SQLite has no NaN), infinities stay."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        # SQLite's RETURNING gives 0 for a 0.0 just written
        return None if value is None else float(value)


class FreeText(TypeDecorator[str]):
    """Text from outside, made storable: a record with odd bytes in its headers must not stop the stream."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else self.stored(value)

    @staticmethod
    def stored(value: str) -> str:
        """As the database gives it back."""
        # PostgreSQL has no NUL in text, and neither database has half a surrogate pair
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode()


class PathText(TypeDecorator[str]):
    """File names, byte for byte.

    Names that are not UTF-8 (a share written by another system) reach Python as lone surrogates
    U+DC80..U+DCFF, which no database stores; they rest as private characters U+EF80..U+EFFF.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else self.stored(value)

    @staticmethod
    def stored(value: str) -> str:
        """As it rests in the database."""
        return re.sub("[\udc80-\udcff]", lambda char: chr(ord(char[0]) - 0xDC80 + 0xEF80), value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return re.sub("[\uef80-\uefff]", lambda char: chr(ord(char[0]) - 0xEF80 + 0xDC80), value)


class Headers(TypeDecorator[Mapping[str, bytes]]):
    """Message headers, their bytes as base64 in a JSON object."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, bytes] | None, dialect: Dialect) -> dict[str, str]:
        return {name: base64.b64encode(data).decode() for name, data in (value or {}).items()}

    def process_result_value(self, value: Any, dialect: Dialect) -> Mapping[str, bytes]:
        return {name: base64.b64decode(data) for name, data in (value or {}).items()}
