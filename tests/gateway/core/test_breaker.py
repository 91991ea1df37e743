"""The circuit breaker before the swarm."""

from gateway.core.breaker import Breaker, Trial


def test_it_is_closed_until_a_failure() -> None:
    breaker = Breaker()
    assert breaker.begin(0) is Trial.WAIT
    assert not breaker.is_open
    breaker.succeeded()
    assert breaker.begin(1) is Trial.WAIT


def test_an_outage_is_waited_for_once_and_tried_again_by_one_request_at_a_time() -> None:
    breaker = Breaker()
    breaker.failed(0)
    assert breaker.is_open
    assert [breaker.begin(at) for at in (0, 0.5)] == [Trial.LOCAL] * 2
    assert breaker.begin(1) is Trial.PROBE
    assert breaker.begin(1.1) is Trial.LOCAL
    breaker.failed(2, probe=True)
    assert breaker.begin(3.9) is Trial.LOCAL
    assert breaker.begin(4) is Trial.PROBE
    breaker.succeeded()
    assert breaker.begin(4.1) is Trial.WAIT


def test_clients_of_one_moment_do_not_prolong_it() -> None:
    breaker = Breaker()
    breaker.failed(0)
    breaker.failed(0.9)
    assert breaker.begin(1) is Trial.PROBE


def test_the_pause_grows_to_its_limit_and_starts_again() -> None:
    breaker, now = Breaker(), 0.0
    breaker.failed(now)
    pauses = []
    for _ in range(6):
        began = now
        while breaker.begin(now) is not Trial.PROBE:
            now += 0.5
        pauses.append(now - began)
        breaker.failed(now, probe=True)
    assert pauses == [1, 2, 4, 8, 15, 15]
    breaker.succeeded()
    breaker.failed(now)
    assert breaker.begin(now + 1) is Trial.PROBE
