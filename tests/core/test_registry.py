"""Names of interchangeable parts."""

import pytest

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.registry import Registry


@pytest.fixture
def registry():
    registry = Registry("fruit")

    @registry.register("apple", "pomme", "apfel")
    class Apple:
        pass

    @registry.register("banana")
    class Banana:
        pass

    registry.apple, registry.banana = Apple, Banana
    return registry


def test_name_and_aliases_mean_the_same_class(registry):
    assert registry["apple"] is registry["pomme"] is registry["apfel"] is registry.apple
    assert registry.canonical("apfel") == "apple"
    assert registry.aliases_of("apple") == ["pomme", "apfel"]
    assert registry.aliases_of("banana") == []


def test_iteration_gives_names_in_order_without_aliases(registry):
    assert list(registry) == ["apple", "banana"]
    assert list(registry.items()) == [("apple", registry.apple), ("banana", registry.banana)]


def test_the_decorator_hands_the_class_back_unchanged(registry):
    assert registry.banana.__name__ == "Banana"


def test_unknown_name_tells_the_nearest_first_and_all_valid_ones(registry):
    with pytest.raises(UserError, match=r"unknown fruit 'bananna': did you mean banana\?.*apfel, apple, banana"):
        registry["bananna"]


def test_unknown_name_without_a_near_one_gives_no_hint(registry):
    with pytest.raises(UserError) as caught:
        registry["zzz"]
    assert "did you mean" not in str(caught.value)
    assert "valid names are apfel, apple, banana, pomme" in str(caught.value)


@pytest.mark.parametrize("name", [None, 3, ["apple"], {}])
def test_what_is_not_a_string_is_an_unknown_name(registry, name):
    with pytest.raises(UserError, match="unknown fruit"):
        registry[name]


def test_unknown_name_builds_a_value_error():
    assert isinstance(unknown_name("thing", "x", ["y"]), ValueError)
