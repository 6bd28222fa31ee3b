"""The kinds of fields that bodies and queries have in common. Knows no route."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

MAX_PAGE = 1_000_000


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""ISO 8601, or seconds or milliseconds since the epoch; UTC where no zone is named."""

Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
"""A short text."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
"""A short text that says something."""

Dollars = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e9)]


class Asked(BaseModel):
    """A body or a query in which null and nothing are the same."""

    @model_validator(mode="before")
    @classmethod
    def _forget_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None and value != ""}
