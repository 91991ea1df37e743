"""SystemClock: the one monotonic, the other the calendar's."""

import time

from worker_peer.host.clock import Clock, SystemClock


def test_now_does_not_go_back_and_wall_is_unix_time() -> None:
    clock: Clock = SystemClock()
    before = time.time()
    readings = [clock.now() for _ in range(100)]
    assert readings == sorted(readings)
    assert before - 1 <= clock.wall() <= time.time() + 1
