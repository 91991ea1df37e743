"""What the host spent on a stretch of time, as psutil sees it: bytes per network interface, CPU of the host and of processes."""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from scripts.demonstration.processes import RunningProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """Differences between the two ends of the stretch."""

    seconds: float
    #: Bytes sent per network interface, those that sent any.
    sent_bytes: Mapping[str, int]
    #: CPU seconds of the whole host, everything on it included, and how many it had to give.
    cpu_seconds: float
    cpu_capacity_seconds: float
    #: CPU seconds per group of processes.
    group_cpu_seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    at: float
    sent: Mapping[str, int]
    host_cpu: float
    host_idle: float
    groups: Mapping[str, float]


class HostMeter:
    """Begins to measure when it is made. `groups` are the long-lived processes by the name of their group."""

    def __init__(self, groups: Mapping[str, list[RunningProcess]]) -> None:
        self._groups = groups
        self._begin = self._snapshot()

    def so_far(self) -> HostUse:
        """What was spent since the beginning."""
        begin, end = self._begin, self._snapshot()
        sent = {name: count - begin.sent.get(name, 0) for name, count in end.sent.items()}
        busy = end.host_cpu - begin.host_cpu
        return HostUse(
            seconds=end.at - begin.at,
            sent_bytes={name: count for name, count in sent.items() if count > 0},
            cpu_seconds=busy,
            cpu_capacity_seconds=busy + end.host_idle - begin.host_idle,
            group_cpu_seconds={name: spent - begin.groups.get(name, 0.0) for name, spent in end.groups.items()},
        )

    def _snapshot(self) -> _Snapshot:
        cpu = psutil.cpu_times()
        # iowait is idle time: the processor was free for others. guest is counted in user already.
        idle = cpu.idle + getattr(cpu, "iowait", 0.0)
        busy = sum(cpu) - idle - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0)
        groups = {name: sum(_cpu_of_family(each.pid) for each in group) for name, group in self._groups.items()}
        # The one-shot dfgets are waited for: the kernel adds up what such children spent.
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        groups["dfget"] = ended.ru_utime + ended.ru_stime
        sent = {name: counters.bytes_sent for name, counters in psutil.net_io_counters(pernic=True).items()}
        return _Snapshot(time.monotonic(), sent, busy, idle, groups)


def _cpu_of_family(pid: int) -> float:
    """CPU seconds of a process and its living descendants; 0 when it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    spent = 0.0
    for member in family:
        try:
            times = member.cpu_times()
        except psutil.Error:
            continue
        spent += times.user + times.system
    return spent
