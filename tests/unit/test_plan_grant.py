"""The bound that `allow` puts on a plan: what it permits, what is beyond it, and what it leaves to a child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import AuthorityError, run_error_from_json
from engine.core.plan.grant import (
    ANY,
    DEFAULT_MODEL,
    KINDS,
    NOTHING,
    OPEN,
    Grant,
    Reach,
    check_permitted,
    excess,
    granted,
    host_entry,
    narrow,
    unsettled,
    within,
)

WIDE = Reach(("t",), ("m",), ("h",), ("s",), ("c",))


def test_no_bound_permits_everything_and_an_empty_one_nothing() -> None:
    assert excess(OPEN, WIDE) == Reach()
    assert excess(NOTHING, WIDE) == WIDE
    assert excess(Grant(tools=()), WIDE) == Reach(tools=("t",))


@pytest.mark.parametrize(
    ("entry", "permitted", "refused"),
    [
        ("a.example", ["a.example"], ["b.a.example", "a.example:8080", "example", "xa.example"]),
        ("a.example:8080", ["a.example:8080"], ["a.example", "a.example:8081"]),
        ("a.example:*", ["a.example", "a.example:8080"], ["b.example:8080"]),
        ("*.example", ["a.example", "b.a.example"], ["example", "a.example:8080", "aexample", "a.example.org"]),
        ("*.example:*", ["a.example", "a.example:1"], ["example:1"]),
        ("[::1]:8080", ["[::1]:8080"], ["[::1]", "[::2]:8080"]),
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.10", "110.0.0.1"]),
    ],
)
def test_a_host_may_have_a_port_and_begin_with_a_star(entry: str, permitted: list[str], refused: list[str]) -> None:
    grant = Grant(hosts=(entry,))
    assert [name for name in [*permitted, *refused] if grant.permits("hosts", name)] == permitted


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("API.Example.COM.", "api.example.com"),
        ("a.example:443", "a.example"),
        ("a.example:80", "a.example"),
        ("a.example:08080", "a.example:8080"),
        ("[::1]:443", "[::1]"),
        ("a.example:*", "a.example:*"),
        ("*.example", "*.example"),
        ("https://a.example", None),
        ("a.example/x", None),
        ("me@a.example", None),
        ("a.example:0", None),
        ("a.example:65536", None),
        ("a..example", None),
        ("*", None),
        ("*example", None),
        ("a.*.example", None),
        ("ä.example", None),
        ("a.example:٨٠", None),
        ("", None),
    ],
)
def test_a_host_has_one_spelling(text: str, entry: str | None) -> None:
    assert host_entry(text) == entry


def test_a_task_without_an_alias_stands_for_all_its_versions() -> None:
    assert Grant(tasks=("clean",)).permits("tasks", "clean@prod")
    assert not Grant(tasks=("clean@prod",)).permits("tasks", "clean")
    assert not Grant(tasks=("clean",)).permits("tasks", "cleaner")
    assert not Grant(tasks=("clean",)).permits("tasks", "cleaner@prod")


def test_what_is_computed_is_beyond_a_bound_for_certain_only_where_nothing_is_allowed() -> None:
    computed = Reach(models=(ANY, DEFAULT_MODEL), hosts=(ANY,))
    some = Grant(models=("m",), hosts=("h",))
    assert (excess(some, computed), unsettled(some, computed)) == (Reach(), computed)
    none = Grant(models=(), hosts=())
    assert (excess(none, computed), unsettled(none, computed)) == (computed, Reach())


def test_a_computed_secret_is_beyond_any_bound_since_nothing_looks_at_it_later() -> None:
    assert excess(Grant(secrets=("s",)), Reach(secrets=(ANY,))) == Reach(secrets=(ANY,))


def test_the_default_model_can_be_named() -> None:
    assert Grant(models=(DEFAULT_MODEL,)).permits("models", DEFAULT_MODEL)
    assert not Grant(models=(DEFAULT_MODEL,)).permits("models", "m")


def test_what_a_bound_leaves_of_computed_names_are_its_own() -> None:
    assert within(Grant(hosts=("a", "b")), Reach(hosts=(ANY, "a"))) == Reach(hosts=("a", "b"))
    assert within(OPEN, Reach(hosts=(ANY,))) == Reach(hosts=(ANY,))


def test_a_pattern_covers_what_it_stands_for_when_reaches_are_compared() -> None:
    one, other = Reach(hosts=("a.example", "b.org")), Reach(hosts=("*.example",))
    assert one.beyond(other) == Reach(hosts=("b.org",))
    assert other.beyond(one) == Reach(hosts=("*.example",))


def test_a_refusal_names_the_kind_the_name_and_what_is_permitted() -> None:
    with pytest.raises(AuthorityError) as caught:
        check_permitted(Grant(hosts=("a.example",)), "hosts", "b.example")
    error = caught.value
    assert (error.code, error.retryable) == ("authority.denied", False)
    assert error.message == "the task may not call the host 'b.example'"
    assert "`allow.hosts`" in error.hint
    assert "it permits a.example" in error.hint
    assert error.details == {"kind": "hosts", "name": "b.example"}
    assert type(run_error_from_json(error.to_json())) is AuthorityError


# --- children ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("child", "parent", "both"),
    [
        (None, None, None),
        (None, (), ()),
        (("a",), None, ("a",)),
        (("a", "b"), ("b", "c"), ("b",)),
        ((), ("a",), ()),
    ],
)
def test_a_child_is_left_what_both_bounds_permit(
    child: tuple[str, ...] | None, parent: tuple[str, ...] | None, both: tuple[str, ...] | None
) -> None:
    assert narrow(Grant(tools=child), Grant(tools=parent)) == Grant(tools=both)


@pytest.mark.parametrize(
    ("child", "parent", "both"),
    [
        ("*.a.example", "*.example", "*.a.example"),
        ("*.example", "x.example:*", "x.example"),
        ("*.example:*", "x.example:8080", "x.example:8080"),
        ("x.example", "x.example:8080", None),
        ("*.example", "*.org", None),
        ("*.example", "example", None),
    ],
)
def test_of_two_hosts_the_narrower_is_left(child: str, parent: str, both: str | None) -> None:
    wanted = Grant(hosts=() if both is None else (both,))
    assert narrow(Grant(hosts=(child,)), Grant(hosts=(parent,))) == wanted
    assert narrow(Grant(hosts=(parent,)), Grant(hosts=(child,))) == wanted


def test_of_a_task_with_and_without_an_alias_the_one_with_it_is_left() -> None:
    assert narrow(Grant(tasks=("clean",)), Grant(tasks=("clean@prod",))) == Grant(tasks=("clean@prod",))


hosts = st.builds(
    lambda star, names, port: ("*." if star else "") + ".".join(names) + port,
    st.booleans(),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3),
    st.sampled_from(["", ":8080", ":*"]),
)
names = st.one_of(
    hosts.filter(lambda text: "*" not in text), st.sampled_from(["t", "t@p", "t@q", "u", DEFAULT_MODEL, "m"])
)
lists = st.none() | st.lists(hosts | st.sampled_from(["t", "t@p", "u", DEFAULT_MODEL, "m"]), max_size=4).map(tuple)
grants = st.builds(Grant, lists, lists, lists, lists, lists)


@given(grants, grants, st.sampled_from(KINDS), names)
def test_the_narrowed_bound_permits_exactly_what_both_permit(one: Grant, other: Grant, kind: str, name: str) -> None:
    both = one.permits(kind, name) and other.permits(kind, name)
    assert narrow(one, other).permits(kind, name) is both


@given(grants, grants)
def test_nothing_of_a_narrowed_bound_is_beyond_either(one: Grant, other: Grant) -> None:
    left = granted(narrow(one, other))
    assert left.beyond(granted(one)) == Reach()
    assert left.beyond(granted(other)) == Reach()
