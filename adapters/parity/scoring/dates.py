"""Dates and date-times as models write them, read only where they can mean one thing."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_MONTH_NUMBER = {
    **{name: number for number, name in enumerate(_MONTHS, start=1)},
    **{name[:3]: number for number, name in enumerate(_MONTHS, start=1)},
    "sept": 9,
}
_MAX_LENGTH = 40
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})", re.ASCII)
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})", re.ASCII)
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_MONTH_DAY_YEAR = re.compile(rf"([a-z]{{3,9}})\.? {_DAY},? (\d{{4}})", re.ASCII)
_DAY_MONTH_YEAR = re.compile(
    rf"{_DAY}(?: of )?[ \-]?([a-z]{{3,9}})\.?[ \-,]{{1,2}}(\d{{4}})", re.ASCII
)
_DATE_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)


def iso_date(text: str) -> str | None:
    """The date or date-time that the whole text is, in one ISO 8601 form; None if it is not one.

    Dates become `2025-03-04`. Read are year-first numbers (`2025/3/4`), month names (`March 4th,
    2025`, `4 Mar 2025`, `04-Mar-2025`), and day and month before the year only where one of them
    is above 12 or both are equal: `03/04/2025` is two dates, so it is left alone.
    Date-times become `2025-03-04T10:00:00`; one with an offset is moved to UTC and ends in `Z`.
    """
    if len(text) > _MAX_LENGTH or not any(character.isdigit() for character in text):
        return None
    if _DATE_TIME.fullmatch(text):
        return _iso_date_time(text)
    parts = _date_parts(text.lower())
    if parts is None:
        return None
    try:
        return date(*parts).isoformat()
    except ValueError:
        return None


def _iso_date_time(text: str) -> str | None:
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            return moment.isoformat()
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    except (ValueError, OverflowError):
        return None


def _date_parts(text: str) -> tuple[int, int, int] | None:
    if found := _YEAR_FIRST.fullmatch(text):
        return int(found[1]), int(found[3]), int(found[4])
    if found := _YEAR_LAST.fullmatch(text):
        return _unambiguous(int(found[4]), int(found[1]), int(found[3]))
    if found := _MONTH_DAY_YEAR.fullmatch(text):
        month, day, year = _MONTH_NUMBER.get(found[1]), int(found[2]), int(found[3])
    elif found := _DAY_MONTH_YEAR.fullmatch(text):
        month, day, year = _MONTH_NUMBER.get(found[2]), int(found[1]), int(found[3])
    else:
        return None
    return None if month is None else (year, month, day)


def _unambiguous(year: int, first: int, second: int) -> tuple[int, int, int] | None:
    if first == second or first > 12 >= second:
        return year, second, first
    return (year, first, second) if second > 12 >= first else None
