"""How much of this machine's memory a process may still take, whatever limits it."""

import resource
from pathlib import Path

import psutil


def available_bytes() -> int:
    """Memory that this process could still take, in bytes.

    This is what the machine has free, unless a container or a scheduler (cgroups) or a shell
    (`ulimit -d`) leaves less.
    """
    free, (limit, _) = psutil.virtual_memory().available, resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit - getattr(psutil.Process().memory_info(), "data", 0))
    return max(0, min([free, *group_bytes()]))


def group_bytes(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """How much each control group of this process leaves, in bytes, where it has a limit.

    The kernel counts cached pages of files as used. Those that are inactive can be freed at any
    time, so they count as free here.

    Args:
        groups: the kernel's list of the groups (man 7 cgroups).
        root: the folder where the kernel shows them.
    """
    free_by_group = []
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:  # not on Linux
        return []
    for number, kinds, path in lines:
        if number == "0":  # version 2
            top, names, cached = root, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in kinds.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cached = "total_inactive_file"
        else:
            continue
        folder = top / path.lstrip("/")
        for place in (folder, *folder.parents):
            try:
                limit, used = (int((place / name).read_text()) for name in names)
                stat = dict(
                    line.split() for line in (place / "memory.stat").read_text().splitlines()
                )
                free_by_group.append(limit - used + int(stat.get(cached, 0)))
            except (OSError, ValueError):  # no such file, or no limit: "max"
                pass
            if place == top:
                break
    return free_by_group
