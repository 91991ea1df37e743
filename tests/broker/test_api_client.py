"""What the supernode's commands send and what they make of its answers, against a server that says what a test wants."""

import argparse
import asyncio

import pytest

from broker.api_client import API_HEADER, ApiClient, CommandFailed, add_flags, client_of
from tests.support.raw_http import answers, ok, upstream


def refusal(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def test_it_says_what_the_operator_wants_and_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv(API_HEADER, "X-Key: s3cret")
    parser = argparse.ArgumentParser()
    add_flags(parser)
    async with upstream(answers(ok(b'{"id": 1}'))) as server:
        client = client_of(parser.parse_args(["--supernode", f"127.0.0.1:{server.port}"]))
        assert await asyncio.to_thread(client.ask, "DELETE", "/jobs/1") == {"id": 1}
    assert (server.seen[0].line, server.seen[0].get("X-Key")) == ("DELETE /jobs/1 HTTP/1.1", ["s3cret"])
    assert "s3cret" not in repr(client)


@pytest.mark.parametrize(
    ("answer", "told", "again"),
    [
        (refusal("409 Conflict", b'{"message": "unpin others"}'), "unpin others", False),
        (refusal("404 Not Found", b"<html>"), "the supernode answers 404", False),
        (refusal("503 Busy", b'{"message": "later"}'), "later", True),
        (ok(b"no JSON"), "name the supernode by --supernode host:port", True),
    ],
)
async def test_an_answer_that_is_none_is_told_in_words(answer: bytes, told: str, again: bool) -> None:
    async with upstream(answers(answer)) as server:
        with pytest.raises(CommandFailed, match=told) as failed:
            await asyncio.to_thread(ApiClient(f"127.0.0.1:{server.port}").ask, "GET", "/jobs")
    assert failed.value.again is again


def test_who_is_not_there_may_be_named_otherwise() -> None:
    with pytest.raises(CommandFailed, match=r"127\.0\.0\.1:9 gives no answer \(.*refused\): name the supernode"):
        ApiClient("127.0.0.1:9").ask("GET", "/jobs")
