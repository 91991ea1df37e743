"""`/debug/why`: a question in a URL, the answer as JSON. Pure.

200 with an explanation; 200 with the last traces where nothing is asked; 404 with what is near where nothing is known.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from gateway.core.pulls import Explanation, NotKnown, explain, shown_name
from gateway.core.subject import Kind
from gateway.core.trace import Given, Trace, Wait, parts_of
from gateway.core.verdict import dominant, verdict_of

PATH: Final = "/debug/why"
_LISTED: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is answered."""

    status: int
    reason: str
    text: str


def question_of(target: str) -> str:
    """What `?of=` asks; empty: nothing."""
    return parse_qs(target.partition("?")[2]).get("of", [""])[0][:1024]


def answer(traces: Sequence[Trace], question: str) -> Found:
    """`traces` in the order of their ends."""
    if not question.strip():
        last = [each for each in traces if each.subject.kind is not Kind.OTHER] or list(traces)
        return _ok({"last": [_listed(each) for each in reversed(last[-_LISTED:])]})
    try:
        return _ok(_told(explain(traces, question)))
    except NotKnown as error:
        return Found(status=404, reason="Not Found", text=json.dumps({"error": str(error), "nearest": error.nearest}))


def _ok(told: Mapping[str, Any]) -> Found:
    return Found(status=200, reason="OK", text=json.dumps(told))


def _listed(trace: Trace) -> dict[str, Any]:
    return {
        "ask": shown_name(trace),
        "trace": trace.id,
        "began": trace.began,
        "seconds": trace.whole_us / 1e6,
        "bytes": trace.sent_bytes,
        "status": trace.status,
        "method": trace.method,
        "verdict": verdict_of(trace),
    }


def _told(found: Explanation) -> dict[str, Any]:
    return {
        "title": found.title,
        "began": found.began,
        "seconds": found.whole_us / 1e6,
        "bytes": sum(each.size for each in found.given),
        "verdict": found.verdict,
        "dominant": dominant(found.waits)[0].value,
        "phases": {part.value: spent / 1e6 for part, spent in parts_of(found.waits).items()},
        "waits": _seconds(found.waits),
        "from": [_given(each) for each in found.given],
        "requests": [_request(each) for each in sorted(found.traces, key=lambda each: each.began)],
    }


def _request(trace: Trace) -> dict[str, Any]:
    subject = trace.subject
    return {
        "trace": trace.id,
        "kind": subject.kind.value,
        "url": subject.url,
        "image": subject.name if subject.repository else "",
        "reference": subject.reference,
        "digest": subject.digest,
        "method": trace.method,
        "status": trace.status,
        "end": trace.end,
        "way": trace.way,
        "rule": trace.rule,
        "fallback": trace.fallback,
        "client": trace.client,
        "began": trace.began,
        "seconds": trace.whole_us / 1e6,
        "bytes": trace.sent_bytes,
        "verdict": verdict_of(trace),
        "phases": {part.value: spent / 1e6 for part, spent in parts_of(trace.waits).items()},
        "waits": _seconds(trace.waits),
        "from": [_given(each) for each in trace.given],
        "timeline": {"step_s": trace.bin_us / 1e6, "steps": [_seconds(each) for each in trace.bins]},
    }


def _given(given: Given) -> dict[str, Any]:
    return {"place": given.place.value, "name": given.name, "bytes": given.size}


def _seconds(waits: Mapping[Wait, int]) -> dict[str, float]:
    return {wait.value: spent / 1e6 for wait, spent in waits.items()}
