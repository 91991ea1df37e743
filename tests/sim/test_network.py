"""The links of the simulator: bytes take the time that they take."""

import pytest

from scripts.simulation.network import Flow, Link, Network


def finish(network: Network, flows: list[Flow]) -> list[float]:
    ended: dict[Flow, float] = {}

    def done(flow: Flow) -> None:
        ended[flow] = network.now
        network.stop(flow)

    for flow in flows:
        flow.finished = done
    while network.step():
        pass
    return [ended[flow] for flow in flows]


def nothing(_: Flow) -> None:
    raise AssertionError("not set")


def test_a_flow_has_its_narrowest_link() -> None:
    network, flow = Network(), Flow((Link(100.0), Link(10.0)), 50.0, nothing)
    network.start(flow)
    assert finish(network, [flow]) == [pytest.approx(5.0)]


def test_flows_share_a_link_and_get_all_of_it_when_the_other_has_ended() -> None:
    network, link = Network(), Link(10.0)
    short, long = Flow((link,), 10.0, nothing), Flow((link,), 30.0, nothing)
    network.start(short)
    network.start(long)
    assert finish(network, [short, long]) == [pytest.approx(2.0), pytest.approx(4.0)]


def test_a_flow_that_begins_later_slows_the_first_down() -> None:
    network, link = Network(), Link(10.0)
    first, second = Flow((link,), 20.0, nothing), Flow((link,), 5.0, nothing)
    network.start(first)
    network.at(1.0, lambda flow: network.start(flow), second)
    assert finish(network, [first, second]) == [pytest.approx(2.5), pytest.approx(2.0)]


def test_a_follower_takes_over_the_share() -> None:
    network, link = Network(), Link(10.0)
    other = Flow((link,), 100.0, nothing)
    first, second = Flow((link,), 10.0, nothing), Flow((link,), 10.0, nothing)
    ended: list[float] = []

    def then(flow: Flow) -> None:
        ended.append(network.now)
        network.replace(flow, second)

    def stop(flow: Flow) -> None:
        ended.append(network.now)
        network.stop(flow)

    first.finished, second.finished, other.finished = then, stop, stop
    network.start(other)
    network.start(first)
    while network.step():
        pass
    assert ended == [pytest.approx(2.0), pytest.approx(4.0), pytest.approx(12.0)]
    assert not link.flows


def test_a_stopped_flow_keeps_what_has_not_come() -> None:
    network, flow = Network(), Flow((Link(10.0),), 50.0, nothing)
    network.start(flow)
    network.at(2.0, lambda each: network.stop(each), flow)
    while network.step():
        pass
    assert flow.remaining == pytest.approx(30.0)


def test_calls_of_one_time_happen_in_the_order_of_their_asking() -> None:
    network = Network()
    happened: list[str] = []
    for name in "abc":
        network.at(1.0, happened.append, name)
    network.at(0.5, happened.append, "first")
    while network.step():
        pass
    assert happened == ["first", "a", "b", "c"]
