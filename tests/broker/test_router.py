"""The ROUTER with real DEALERs: who is greeted, who is refused, garbage of any kind, the timer, and peers that are gone."""

import asyncio
import logging
import struct
from contextlib import suppress
from random import Random

import pytest
import zmq

from broker import router as router_module
from broker.core.effects import Effect, Forget, Tell
from broker.core.events import Event, PeerGone, PeerGreeted, PeerSaid, Tick
from broker.core.scheduler import SchedulerSettings
from broker.router import Router
from tests.support.broker_router import RUN_ID, RememberingScheduler, loopback_broker
from tests.support.broker_words import (
    CONTENT_DIGEST,
    SEED,
    TASK,
    block_digests,
    hello,
    register,
    seeded,
    told,
)
from tests.support.dealer import Dealer, zmq_context
from wire.errors import ErrorCode
from wire.framing import MAGIC, MAX_FRAME_BYTES, to_frames
from wire.messages import (
    Alive,
    Blocks,
    Fetch,
    Hello,
    Kind,
    Lease,
    NotKnown,
    Refused,
    Register,
    Report,
    Role,
    Task,
    TaskState,
    Welcome,
)
from wire.version import PROTOCOL
from worker_peer.host.clock import SystemClock

TELL_A = Tell(peer="a", message=Alive())


async def test_hello_is_welcomed_with_the_runs_id_and_the_cadence() -> None:
    with loopback_broker(SchedulerSettings(alive_every_s=0.25, lost_after_s=3.5)) as broker:
        dealer = broker.connect()
        dealer.say(hello("a"))
        assert await dealer.hears(Welcome) == Welcome(protocol=PROTOCOL, supernode=RUN_ID, alive_every_s=0.25, lost_after_s=3.5)
        assert set(broker.scheduler.state.peers) == {"a"}
        await dealer.is_answered()
        assert (broker.router.messages_in, broker.router.messages_out, broker.router.dropped) == (2, 2, 0)


async def test_a_newer_minor_is_spoken_to_as_this_end_can() -> None:
    with loopback_broker() as broker:
        dealer = broker.connect()
        dealer.say(Hello(protocol=(PROTOCOL[0], 77), peer="a", role=Role.PEER))
        assert (await dealer.hears(Welcome)).protocol == PROTOCOL


async def test_another_major_in_the_hello_is_refused_by_name() -> None:
    with loopback_broker() as broker:
        dealer = broker.connect()
        dealer.say(Hello(protocol=(PROTOCOL[0] + 1, 0), peer="a", role=Role.PEER))
        refused = await dealer.hears(Refused)
        assert (refused.code, refused.majors) == (ErrorCode.MAJOR_MISMATCH, (PROTOCOL[0], PROTOCOL[0]))
        assert "same release" in refused.message
        assert broker.scheduler.state.peers == {}
        assert broker.router.refused == {"major_mismatch": 1}
        dealer.say(Alive())
        await dealer.hears(NotKnown)


async def test_another_major_in_the_head_is_refused_with_ours() -> None:
    """Of another major nothing but the head's first five bytes can be read, whatever its HELLO looks like."""
    with loopback_broker() as broker:
        dealer = broker.connect()
        head = bytearray(to_frames(hello("a"))[0])
        head[len(MAGIC)] = PROTOCOL[0] + 1
        dealer.say_frames([bytes(head)])
        refused = await dealer.hears(Refused)
        assert (refused.code, refused.majors) == (ErrorCode.MAJOR_MISMATCH, (PROTOCOL[0], PROTOCOL[0]))
        assert "same release" in refused.message
        assert broker.router.refused == {"major_mismatch": 1}


async def test_who_has_not_said_hello_is_told_so_and_may_do_it_then() -> None:
    with loopback_broker() as broker:
        dealer = broker.connect()
        dealer.say(register())
        await dealer.hears(NotKnown)
        assert broker.scheduler.events == []
        dealer.say(hello("a"), register())
        await dealer.hears(Welcome)
        assert await dealer.hears(Task) == told(TaskState.PROBING)


async def test_a_task_from_the_question_to_the_report_over_real_sockets() -> None:
    with loopback_broker() as broker:
        seed, child = await broker.join(SEED, Role.SEED), await broker.join("a")
        child.say(register())
        assert await seed.hears(Fetch) == Fetch(task=TASK, url=register().url)
        assert (await child.hears(Task)).state is TaskState.PROBING
        seed.say(seeded(0, of=1, digest=CONTENT_DIGEST))
        assert await child.hears(Task) == told(TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST)
        lease = await child.hears(Lease)
        assert (lease.parent, lease.endpoint, lease.pieces) == (SEED, f"tcp://{SEED}:1", (0,))
        assert lease.digests == block_digests(0)
        child.say(Report(task=TASK, done=((lease.lease, 0, 1e6),)))
        await child.is_answered()
        assert len(broker.scheduler.state.leases) == 0
        assert broker.scheduler.state.counters.pieces_reported == 1
        broker.scheduler.validate()


def head(kind: int, body: bytes = b"", *, flags: int = 0, said: int | None = None) -> bytes:
    return struct.pack(">4sBBBBI", MAGIC, PROTOCOL[0], kind, flags, 0, len(body) if said is None else said) + body


GARBAGE: list[tuple[str, list[bytes]]] = [
    ("short_head", [b""]),
    ("short_head", [MAGIC]),
    ("wrong_frame_count", [b"", b"x", b"y"]),
    ("bad_magic", [b"GET / HTTP/1.1\r\n\r\n"]),
    ("unknown_kind", [head(255, b"\x80")]),
    ("body_too_large", [head(Kind.ALIVE, b"", said=1 << 31)]),
    ("body_length_mismatch", [head(Kind.ALIVE, b"\x80", said=9)]),
    ("body_length_mismatch", [head(Kind.ALIVE, b"\x80") + b"\x01"]),
    ("bad_compression", [head(Kind.ALIVE, b"\x05\x00\x00\x00\xff\xff", flags=1)]),
    ("body_too_large", [head(Kind.ALIVE, b"\xff\xff\xff\x7f", flags=1)]),
    ("bad_encoding", [head(Kind.ALIVE, b"\xc1")]),
    ("bad_encoding", [head(Kind.ALIVE, b"\xdf\xff\xff\xff\xff")]),
    ("bad_encoding", [head(Kind.ALIVE, b"\x91" * 2000)]),
    ("bad_encoding", [head(Kind.ALIVE, b"\x01")]),
    ("missing_field", [head(Kind.REGISTER, b"\x80")]),
    ("bad_field", [head(Kind.LEAVE, b"\x82\xa4task\xa1x\xa6reason\x00")]),
    ("unexpected_payload", [head(Kind.ALIVE, b"\x80"), b"payload"]),
    ("unexpected_payload", [head(Kind.BLOCKS, b"\x80")]),
]


@pytest.mark.parametrize("greeted", [False, True], ids=["stranger", "peer"])
async def test_garbage_is_counted_by_name_and_kills_nothing(greeted: bool) -> None:
    with loopback_broker() as broker:
        dealer = await broker.join("a") if greeted else broker.connect()
        witness = await broker.join("b")
        wanted: dict[str, int] = {}
        for name, frames in GARBAGE:
            dealer.say_frames(frames)
            wanted[name] = wanted.get(name, 0) + 1
        if not greeted:
            dealer.say(hello("a"))
            await dealer.hears(Welcome)
        await dealer.is_answered()
        await witness.is_answered()
        assert broker.router.refused == wanted
        assert set(broker.scheduler.state.peers) == {"a", "b"}


async def test_a_payload_that_belongs_to_a_message_is_no_word_to_a_supernode() -> None:
    with loopback_broker() as broker:
        dealer = await broker.join("a")
        frames = to_frames(Blocks(task=TASK, piece=0, first=0, count=1), b"payload")
        dealer.say_frames([bytes(frame) for frame in frames])
        await dealer.is_answered()
        assert broker.scheduler.state.counters.unexpected == {"BLOCKS": 1}


async def test_a_frame_of_more_bytes_than_any_message_has_ends_the_connection_and_nothing_else() -> None:
    with loopback_broker() as broker, zmq_context() as context:
        witness = await broker.join("b")
        monitored = context.socket(zmq.DEALER)
        monitored.setsockopt(zmq.LINGER, 0)
        events = monitored.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        monitored.connect(f"tcp://127.0.0.1:{broker.router.port}")
        monitored.send(bytes(MAX_FRAME_BYTES + 1))
        assert await asyncio.to_thread(events.poll, 10_000)
        await witness.is_answered()
        assert broker.router.refused == {}
        monitored.disable_monitor()
        monitored.close(0)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10, b"\xff" * 4096, b"\0" * 4096])
async def test_who_speaks_no_zeromq_at_all_hurts_nobody(junk: bytes) -> None:
    with loopback_broker() as broker:
        witness = await broker.join("b")
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.router.port)
        try:
            with suppress(ConnectionError):  # it may be hung up on at once
                writer.write(junk)
                await writer.drain()
                await reader.read(1)
            await witness.is_answered()
        finally:
            writer.close()
        await witness.is_answered()
        assert set(broker.scheduler.state.peers) == {"b"}


async def test_an_error_of_ours_is_logged_and_the_next_message_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(RememberingScheduler):
        def handle(self, event: Event, now: float) -> list[Effect]:
            if isinstance(event, PeerSaid) and isinstance(event.message, Register):
                raise RuntimeError("a bug")
            return super().handle(event, now)

    with zmq_context() as context:
        router = Router(context, Broken(), bind_ip="127.0.0.1", port=0, run_id=RUN_ID, clock=SystemClock())
        dealer = Dealer(context, router.port)
        dealer.say(hello("a"), register(), Alive())
        await dealer.hears(Welcome)
        await dealer.hears(Alive)
        dealer.close()
        router.close()
    assert "a message could not be handled" in caplog.text


async def test_who_has_hung_up_is_gone_as_soon_as_he_is_spoken_to() -> None:
    with loopback_broker() as broker:
        gone, here = await broker.join("a"), await broker.join("b")
        gone.close()
        async with asyncio.timeout(10):
            while not broker.router.dropped:
                # Until the router has seen the connection's end, what is sent into it is lost unseen.
                broker.router._do(TELL_A)
                await here.is_answered()
        await broker.scheduler.happened(PeerGone)
        assert PeerGone(peer="a") in broker.scheduler.events
        assert set(broker.scheduler.state.peers) == {"b"}
        dropped = broker.router.dropped
        broker.router._do(TELL_A)
        await here.is_answered()
        assert broker.router.dropped == dropped


async def test_who_has_come_back_meanwhile_is_not_gone() -> None:
    with loopback_broker() as broker:
        dealer = await broker.join("a")
        broker.router._gone(b"his former connection", "a")
        await dealer.is_answered()
        assert set(broker.scheduler.state.peers) == {"a"}


async def test_who_does_not_read_loses_messages_and_not_his_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "_SEND_HWM", 1)
    large = Fetch(task=TASK, url="http://x/", certificates=tuple(Random(number).randbytes(1 << 16) for number in range(32)))
    with loopback_broker() as broker, zmq_context() as context:
        witness = await broker.join("b")
        deaf = context.socket(zmq.DEALER)
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect(f"tcp://127.0.0.1:{broker.router.port}")
        deaf.send_multipart(to_frames(hello("a")))
        await broker.scheduler.happened(PeerGreeted, 2)
        for _ in range(100):  # 200 MB: more than what any kernel keeps for a connection
            broker.router._do(Tell(peer="a", message=large))
            if broker.router.dropped:
                break
        assert broker.router.dropped == 1
        await witness.is_answered()
        assert set(broker.scheduler.state.peers) == {"a", "b"}
        deaf.close(0)


async def test_what_is_told_to_nobody_goes_nowhere() -> None:
    with loopback_broker() as broker:
        dealer = await broker.join("b")
        before = broker.router.messages_out
        broker.router._do(TELL_A)
        broker.router._do(Forget(peer="a"))
        assert broker.router.messages_out == before
        await dealer.is_answered()


async def test_the_same_peer_over_another_connection_takes_its_place() -> None:
    with loopback_broker() as broker:
        first = await broker.join("a")
        second = await broker.join("a")
        await second.is_answered()
        first.say(Alive())
        await first.hears(NotKnown)
        await second.is_answered()
        assert broker.scheduler.state.counters.peers_lost == 1
        assert set(broker.scheduler.state.peers) == {"a"}


async def test_another_peer_over_the_same_connection_ends_the_first() -> None:
    """Else the silence of the first would one day cut off the second."""
    with loopback_broker() as broker:
        dealer = await broker.join("a")
        dealer.say(hello("b"))
        await dealer.hears(Welcome)
        assert set(broker.scheduler.state.peers) == {"b"}
        assert PeerGone(peer="a") in broker.scheduler.events
        broker.router.handle(PeerGone(peer="a"))
        await dealer.is_answered()


async def test_hello_twice_over_one_connection_is_one_peer() -> None:
    with loopback_broker() as broker:
        dealer = await broker.join("a")
        dealer.say(hello("a"))
        await dealer.hears(Welcome)
        await dealer.is_answered()
        assert set(broker.scheduler.state.peers) == {"a"}
        assert not any(isinstance(event, PeerGone) for event in broker.scheduler.events)


async def test_a_silent_peer_is_lost_by_the_timer_alone_and_told_so_when_it_speaks() -> None:
    with loopback_broker(SchedulerSettings(lost_after_s=0.2)) as broker:
        dealer = await broker.join("a")
        async with asyncio.timeout(10):
            while broker.scheduler.state.peers:
                await broker.scheduler.happened(Tick, 1 + sum(isinstance(event, Tick) for event in broker.scheduler.events))
        dealer.say(Alive())
        await dealer.hears(NotKnown)


async def test_the_timer_goes_on_and_an_earlier_deadline_wins() -> None:
    with loopback_broker() as broker:
        broker.scheduler.deadline = broker.clock.now() + 1000
        dealer = await broker.join("a")
        await dealer.is_answered()
        assert not any(isinstance(event, Tick) for event in broker.scheduler.events)
        broker.scheduler.deadline = broker.clock.now() + 0.02
        await dealer.is_answered()
        await broker.scheduler.happened(Tick, 3)
        assert broker.clock.now() >= broker.scheduler.deadline
        ticks = sum(isinstance(event, Tick) for event in broker.scheduler.events)
        broker.scheduler.deadline = broker.clock.now() + 1000
        await broker.scheduler.happened(Tick, ticks + 1)


async def test_without_a_peer_there_is_no_timer() -> None:
    with loopback_broker() as broker:
        broker.router.handle(Tick())
        assert broker.scheduler.next_deadline() is None
        broker.router.close()
        assert broker.scheduler.events == [Tick()]


async def test_a_closed_router_ticks_no_more() -> None:
    with loopback_broker() as broker:
        broker.scheduler.deadline = broker.clock.now() + 0.01
        broker.router.handle(Tick())
        broker.router.close()
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, later.set)
        await later.wait()
        assert broker.scheduler.events == [Tick()]


async def test_what_happens_is_logged_without_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with loopback_broker() as broker:
        seed, dealer = await broker.join(SEED, Role.SEED), await broker.join("a")
        secret = Register(task=TASK, url="http://user:s3cret@x/y?Signature=s3cret", headers=(("Authorization", "Bearer s3cret"),))
        dealer.say(secret)
        assert (await seed.hears(Fetch)).headers == secret.headers
        await dealer.hears(Task)
        seed.say(seeded(of=1))
        await dealer.hears(Task)
        dealer.say(seeded(of=1))
        await dealer.is_answered()
        broker.router.handle(PeerGone(peer="a"))
    assert "s3cret" not in caplog.text
    levels = {record.getMessage().partition(": ")[0]: record.levelname for record in caplog.records if record.name == "broker"}
    assert levels == {
        f"peer joined {SEED}": "INFO",
        "peer joined a": "INFO",
        f"task new {TASK[:16]} a": "INFO",
        f"task caching {TASK[:16]}": "INFO",
        "unexpected a": "WARNING",
        "peer lost a": "WARNING",
    }


async def test_a_port_that_is_taken_is_an_error_in_words() -> None:
    with loopback_broker() as broker, zmq_context() as context, pytest.raises(OSError, match="choose another --broker-port"):
        Router(context, broker.scheduler, bind_ip="127.0.0.1", port=broker.router.port, run_id=RUN_ID, clock=SystemClock())


async def test_it_listens_on_ipv6_too() -> None:
    with loopback_broker(ip="::1") as broker:
        dealer = await broker.join("a")
        await dealer.is_answered()
