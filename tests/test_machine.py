"""How much memory is free: what the machine has, and what a container leaves of that."""

import psutil

from helpers import machine

GIB = 2**30


def group(folder, names, limit, used, cached, word):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used)):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{word} {cached}\n")


def test_a_containers_limit_counts(tmp_path):
    new = ("memory.max", "memory.current")
    group(tmp_path / "job" / "step", new, "max", 3 * GIB, 0, "inactive_file")
    group(tmp_path / "job", new, 8 * GIB, 3 * GIB, GIB, "inactive_file")
    (tmp_path / "groups").write_text("0::/job/step\n")
    assert machine.group_bytes(tmp_path / "groups", tmp_path) == [6 * GIB]

    old = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(tmp_path / "memory" / "job", old, 4 * GIB, GIB, GIB, "total_inactive_file")
    (tmp_path / "groups").write_text("5:cpu,cpuacct:/job\n4:memory:/job\n")
    assert machine.group_bytes(tmp_path / "groups", tmp_path) == [4 * GIB]


def test_without_groups_the_machine_decides(tmp_path, monkeypatch):
    assert machine.group_bytes(tmp_path / "none", tmp_path) == []
    assert 0 < machine.available_bytes() <= psutil.virtual_memory().total
    monkeypatch.setattr(machine, "group_bytes", lambda: [7, 9])
    assert machine.available_bytes() == 7
    monkeypatch.setattr(machine, "group_bytes", lambda: [-7])
    assert machine.available_bytes() == 0
