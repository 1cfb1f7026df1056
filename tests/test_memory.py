import pytest
import torch

from helpers import memory


def test_peak_counts_what_is_alive_together():
    def run():
        first = torch.zeros(2**20)  # 4 MiB
        second = first + 1  # 8 MiB alive
        del first
        return second * 2  # 8 MiB alive

    assert memory.traced(run) == {"peak_gib": pytest.approx(8 / 1024), "largest_gib": pytest.approx(4 / 1024)}


def test_views_and_in_place_results_cost_nothing():
    weight = torch.zeros(2**20)
    assert memory.traced(lambda: weight.view(1024, -1).add_(1).t())["peak_gib"] == 0


def test_logits_for_every_position_are_length_times_vocabulary(base):
    ids = list(range(100, 164))
    naive, last = (memory.traced(memory.forward(base, ids, last_only)) for last_only in (False, True))
    assert naive["largest_gib"] == pytest.approx(64 * base.config.vocab_size * 4 / memory.GIB)
    assert last["peak_gib"] < naive["peak_gib"] / 2


def test_weights_are_counted_once(base):
    assert memory.weights_gib(base) == pytest.approx(sum(p.numel() for p in base.parameters()) * 4 / memory.GIB, rel=1e-3)
