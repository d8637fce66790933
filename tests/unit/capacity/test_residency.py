"""Hot adapters are those that an LRU would lose although they are asked for often."""

from __future__ import annotations

from serving.capacity.companions import Bursts
from serving.capacity.hot_set import HotSets
from serving.capacity.residency import (
    ResidencyChoice,
    ResidencyState,
    choose_companions,
    choose_hot,
)
from tests.builders.request_traces import zipf_names


def chosen(
    rates: dict[str, float],
    before: ResidencyState | None = None,
    *,
    gpu_slots: int = 8,
    now: float = 1000.0,
) -> ResidencyChoice:
    return choose_hot(before or ResidencyState(), rates, gpu_slots=gpu_slots, now=now)


def cold(n: int, rate: float = 0.02) -> dict[str, float]:
    return {f"cold{index:02}": rate for index in range(n)}


def test_the_hottest_are_chosen_and_a_quarter_of_the_slots_stays_free() -> None:
    hot = {f"hot{index}": 2.0 - index / 10 for index in range(8)}

    choice = chosen({**cold(30), **hot})

    assert choice.hot == ("hot0", "hot1", "hot2", "hot3", "hot4", "hot5")
    assert choice.is_changed
    assert choice.state == ResidencyState(choice.hot, 1000.0)


def test_uniform_traffic_has_nothing_hot_whatever_chance_made_of_it() -> None:
    for seed in range(5):
        traffic = HotSets()
        for index, name in enumerate(zipf_names(40, 400, seed=seed, exponent=0.0)):
            traffic.used(name, index * 0.7)

        assert chosen(traffic.rates(300.0, 285.0)).hot == ()


def test_nothing_is_chosen_where_everything_fits() -> None:
    assert chosen({"hot": 5.0, **cold(7)}).hot == ()
    assert chosen({}).hot == ()


def test_a_single_slot_is_left_to_the_traffic() -> None:
    assert chosen({"hot": 5.0, **cold(30)}, gpu_slots=1).hot == ()
    assert chosen({"hot": 5.0, **cold(30)}, gpu_slots=2).hot == ("hot",)


def test_a_burst_over_all_tenants_every_minute_changes_nothing() -> None:
    traffic, state, choices = HotSets(), ResidencyState(), []
    for second in range(1200):
        for index in range(4):
            traffic.used(f"hot{index}", float(second))
        if second % 60 == 30:
            for index in range(40):
                traffic.used(f"tenant{index:02}", float(second))
        if second % 10 == 9 and second > 60:
            rates = traffic.rates(300.0, float(second))
            choice = choose_hot(state, rates, gpu_slots=8, now=float(second))
            state = choice.state
            choices.append(choice.hot)

    assert set(choices) == {("hot0", "hot1", "hot2", "hot3")}


def test_a_young_choice_stays_as_it_is() -> None:
    before = ResidencyState(("a", "b"), 1000.0)

    young, old = (chosen({**cold(30), "c": 3.0}, before, now=at) for at in (1059.0, 1060.0))

    assert (young.hot, young.state, young.is_changed) == (("a", "b"), before, False)
    assert old.hot == ("c",)


def test_entering_late_takes_more_than_entering_at_first_and_staying_less() -> None:
    # Others have 1.0 a second, so 2 x 1.0 and the counting noise of the window: 2.25.
    others = cold(30, 1.0)
    before = ResidencyState(("a",), 0.0)

    assert chosen({**others, "a": 9.0, "b": 2.3}).hot == ("a", "b")
    assert chosen({**others, "a": 9.0, "b": 2.3}, before).hot == ("a",)
    assert chosen({**others, "a": 9.0, "b": 3.5}, before).hot == ("a", "b")
    assert chosen({**others, "a": 1.6}, before).hot == ("a",)
    assert chosen({**others, "a": 1.3}, before).hot == ()


def test_a_newcomer_takes_the_place_of_a_much_colder_one_alone() -> None:
    before = ResidencyState(("a", "b"), 0.0)
    rates = {**cold(30), "a": 9.0, "b": 3.0}

    assert chosen({**rates, "c": 4.0}, before, gpu_slots=3).hot == ("a", "b")
    assert chosen({**rates, "c": 4.6}, before, gpu_slots=3).hot == ("a", "c")


def test_the_same_adapters_in_another_order_are_no_change() -> None:
    before = ResidencyState(("a", "b"), 0.0)

    choice = chosen({**cold(30), "a": 3.0, "b": 3.1}, before)

    assert (choice.hot, choice.is_changed) == (("a", "b"), False)


def test_fewer_slots_than_before_leave_fewer_adapters() -> None:
    before = ResidencyState(("a", "b", "c"), 0.0)

    choice = chosen({**cold(30), "a": 3.0, "b": 4.0, "c": 5.0}, before, gpu_slots=3)

    assert choice.hot == ("c", "b")


def test_companions_are_bounded_and_sorted_by_tenant() -> None:
    bursts = Bursts()
    for number in range(5):
        for name in [f"zen/x{index}@1" for index in range(6)] + ["acme/b@1", "acme/a@1"]:
            bursts.used(name, 600.0 * number)

    companions = choose_companions(bursts, max_companions=3)

    assert companions == {
        "acme": ("acme/a@1", "acme/b@1"),
        "zen": ("zen/x0@1", "zen/x1@1", "zen/x2@1"),
    }
