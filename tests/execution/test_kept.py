"""Which evaluators a worker keeps."""

from sweep.execution.kept import Evaluators

GIB = 1024**3


def used(*keys: tuple[str, str, int], memory: int = GIB, size: int = 1) -> list[tuple[object, ...]]:
    """Those that are left of evaluators used one after the other, the oldest first."""
    evaluators = Evaluators()
    for key in keys:
        evaluators.of(key, size, memory, object)  # type: ignore[arg-type]
    return list(evaluators)


def test_many_test_sets_of_one_network_stay_and_each_is_made_once():
    made: list[int] = []
    evaluators = Evaluators()
    for _ in range(3):
        for number in range(16):
            evaluators.of(("net", f"set {number}"), 1, GIB, lambda number=number: made.append(number))  # type: ignore
    assert made == list(range(16))


def test_the_oldest_goes_when_there_are_too_many():
    keys = [("net", f"set {number}", 0) for number in range(20)]
    assert used(*keys) == keys[4:]
    assert used(*keys[:16], keys[0], keys[16]) == [*keys[2:16], keys[0], keys[16]]


def test_those_on_other_sets_go_where_images_have_no_room():
    keys = [("net", f"set {number}", 0) for number in range(5)]
    assert used(*keys, size=GIB // 2) == keys[3:]
    assert used(*keys, size=GIB) == keys[4:]
    assert used(*keys, size=2 * GIB) == keys[4:]


def test_a_few_on_one_set_stay_whatever_their_images_take():
    keys = [("net", "set", number) for number in range(6)]
    assert used(*keys, size=2 * GIB) == keys[2:]
    assert used(*keys) == keys


def test_networks_are_few():
    keys = [(f"net {number}", "set", 0) for number in range(10)]
    assert used(*keys) == keys[6:]
