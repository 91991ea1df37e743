"""A source that is read for somebody else is held to a list: each redirect, each address of a name, each connection."""

import socket
from typing import Any

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.host.source_reading import CONTENT, fail, read
from wire.errors import ErrorCode
from worker_peer.host.allowed_hosts import AllowedHosts, parse_allowed
from worker_peer.host.source import SourceReader, SourceRequest

METADATA = "http://169.254.169.254/latest/meta-data?s3cret"


def moved(location: str) -> Page:
    """A redirect."""
    return Page(status=302, headers=(("Location", location),))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names lead to, one answer after the other; what is left is what was not asked for."""
    answers: dict[str, list[list[str]]] = {}
    system = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in answers:
            return system(host, port, *args, **more)
        return [found for address in answers[host].pop(0) for found in system(address, port, *args, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


async def refused(reader: SourceReader, url: str, allowed: AllowedHosts) -> None:
    """It is not asked, and it is said in words."""
    error = await fail(reader, url, allowed=allowed)
    assert error.code is ErrorCode.SOURCE_FORBIDDEN
    assert (error.status, error.retryable) == (0, False)


async def test_a_list_holds_for_the_url_and_for_each_redirect(
    server: SourceServer, other: SourceServer, reader: SourceReader
) -> None:
    server.pages["/file"] = other.pages["/file"] = Page(body=CONTENT)
    server.pages["/there"] = moved(other.url("/file"))
    server.pages["/back"] = moved(server.url("/file"))
    allowed = parse_allowed((f"127.0.0.1:{server.port}",))
    assert await read(await reader.open(SourceRequest(url=server.url("/back"), allowed=allowed))) == CONTENT
    await refused(reader, server.url("/there"), allowed)
    await refused(reader, other.url("/file"), allowed)
    await refused(reader, server.url("/file", host="localhost"), allowed)
    assert other.requests == []
    both = parse_allowed(("127.0.0.0/8",))
    assert await read(await reader.open(SourceRequest(url=server.url("/there"), allowed=both))) == CONTENT
    with pytest.raises(Exception, match=r"base\.sourceAllow"):
        await reader.is_current(SourceRequest(url=server.url("/there"), allowed=allowed), '"tag"')
    assert len(other.requests) == 1


async def test_metadata_is_closed_without_a_list_also_behind_redirects(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/there"] = moved(METADATA)
    server.pages["/local"] = moved("http://[fe80::1%25lo]/x")
    server.pages["/odd"] = moved("http://2852039166/x")
    for url in (METADATA, *map(server.url, ("/there", "/local", "/odd")), "http://0/x", "http://[::ffff:169.254.169.254]/x"):
        await refused(reader, url, AllowedHosts())


async def test_the_address_that_was_looked_at_is_the_one_that_is_asked(
    server: SourceServer, reader: SourceReader, names: dict[str, list[list[str]]]
) -> None:
    names["two-faced.test"] = [["127.0.0.1"], ["169.254.169.254"]]
    server.pages["/file"] = Page(body=CONTENT)
    request = SourceRequest(url=server.url("/file", host="two-faced.test"), allowed=AllowedHosts())
    assert await read(await reader.open(request)) == CONTENT
    assert len(server.requests) == 1
    assert names["two-faced.test"] == [["169.254.169.254"]], "it was looked up once"
    names["inside.test"] = [["127.0.0.1", "169.254.169.254"]]
    server.pages["/there"] = moved(server.url("/file", host="inside.test"))
    await refused(reader, server.url("/there"), AllowedHosts())
    names["elsewhere.test"] = [["10.255.255.1"]]
    await refused(reader, "http://elsewhere.test/x", parse_allowed(("127.0.0.0/8", "::1")))


async def test_a_connection_of_one_list_is_not_used_under_another(
    server: SourceServer, reader: SourceReader, names: dict[str, list[list[str]]]
) -> None:
    """It is kept alive, and would lead to an address that the other list does not allow."""
    names["app.test"] = [["127.0.0.1"], ["127.0.0.1"]]
    server.pages["/file"] = Page(body=CONTENT)
    url = server.url("/file", host="app.test")
    assert await read(await reader.open(SourceRequest(url=url))) == CONTENT
    await refused(reader, url, parse_allowed(("10.0.0.0/8",)))
    assert len(server.requests) == 1


async def test_there_are_so_many_lists_and_no_more(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT)
    for number in range(40):
        allowed = parse_allowed(("127.0.0.1", f"host-{number}"))
        assert await read(await reader.open(SourceRequest(url=server.url("/file"), allowed=allowed))) == CONTENT
    assert len(reader._sessions) == 16
