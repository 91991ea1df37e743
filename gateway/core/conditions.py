"""Conditional requests against a content whose validators are known (RFC 9110 §13). Pure.

The order of precedence is that of §13.2.2. A date counts only where it is exactly one that this source may have sent.
"""

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from gateway.core.headers import Headers, first


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What tells one version of a content from another."""

    etags: tuple[str, ...] = ()
    """Entity tags that all name this content; the first is the one that is sent."""
    last_modified: str = ""


class Outcome(Enum):
    """What the conditions of a request lead to."""

    GO_ON = auto()
    NOT_MODIFIED = auto()
    """304"""
    FAILED = auto()
    """412"""


def evaluate(headers: Headers, validators: Validators) -> Outcome:
    """The outcome for a GET."""
    if (wanted := _all(headers, "If-Match")) is not None:
        if not _matches(wanted, validators.etags, weakly=False):
            return Outcome.FAILED
    elif (date := _seconds(first(headers, "If-Unmodified-Since"))) is not None:
        changed_at = _seconds(validators.last_modified)
        if changed_at is not None and changed_at > date:
            return Outcome.FAILED
    if (held := _all(headers, "If-None-Match")) is not None:
        return Outcome.NOT_MODIFIED if _matches(held, validators.etags, weakly=True) else Outcome.GO_ON
    if (date := _seconds(first(headers, "If-Modified-Since"))) is not None:
        changed_at = _seconds(validators.last_modified)
        if changed_at is not None and changed_at <= date:
            return Outcome.NOT_MODIFIED
    return Outcome.GO_ON


def range_applies(headers: Headers, validators: Validators) -> bool:
    """Whether If-Range, where there is one, lets Range count: an exact date, or a strong tag of this content (§13.1.5)."""
    condition = first(headers, "If-Range")
    if condition is None:
        return True
    condition = condition.strip()
    if condition.endswith('"'):
        return not condition.startswith("W/") and condition in validators.etags
    date = _seconds(condition)
    return date is not None and date == _seconds(validators.last_modified)


def _all(headers: Headers, name: str) -> str | None:
    lines = [value for key, value in headers if key.lower() == name.lower()]
    return ",".join(lines) if lines else None


def _matches(listed: str, etags: tuple[str, ...], *, weakly: bool) -> bool:
    if listed.strip() == "*":
        return True
    ours = {_opaque(each) for each in etags} if weakly else {each for each in etags if not each.startswith("W/")}
    return any((_opaque(each) if weakly else each) in ours for each in _tags(listed))


def _tags(listed: str) -> list[str]:
    """The members of a list of entity tags. A comma may stand inside the quotes."""
    found, rest = [], listed
    while (begin := rest.find('"')) >= 0 and (end := rest.find('"', begin + 1)) > 0:
        weak = rest[:begin].rstrip().endswith("W/")
        found.append(("W/" if weak else "") + rest[begin : end + 1])
        rest = rest[end + 1 :]
    return found


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def _seconds(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
