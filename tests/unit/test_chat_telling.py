"""What a stream tells of an answer: each character once, whoever wrote it first, and nothing that was not said."""

from __future__ import annotations

import pytest

from engine.broker.messages import Told, Want
from engine.broker.running import Piece
from engine.core.errors import Conflict
from engine.edge.native.chat_stream import Telling


def told(path: str = "main.0", *, attempt: int = 1, delivery: int = 1) -> Told:
    want = Want("default", "e1", 1)
    return Told(want=want, effect_id=f"{path}#{attempt}", path=path, attempt=attempt, delivery=delivery)


def piece(index: int, text: str, kind: str = "content") -> Piece:
    return Piece(index, kind, text)


def test_texts_are_told_as_they_come_and_the_rest_at_the_end() -> None:
    telling = Telling()
    assert telling.live(told(), piece(0, "hm", "reasoning")) == ""
    assert telling.live(told(), piece(2, "Once ")) == "Once "
    assert telling.live(told(), piece(7, "upon")) == "upon"
    assert telling.rest("Once upon a time.") == " a time."


def test_what_comes_behind_a_gap_waits_for_the_whole_answer() -> None:
    telling = Telling()
    assert telling.live(told(), piece(0, "Once ")) == "Once "
    assert telling.live(told(), piece(9, " a time")) == ""
    assert telling.rest("Once upon a time") == "upon a time"


def test_calls_of_one_turn_are_told_one_after_another() -> None:
    telling = Telling()
    assert telling.live(told("main.0.turn[0].0"), piece(0, "One moment. ")) == "One moment. "
    assert telling.live(told("main.0.turn[1].0"), piece(0, "Done")) == "Done"
    assert telling.rest("One moment. Done.") == "."


def test_who_comes_while_tools_were_called_already_gets_the_texts_before_them_with_the_whole_answer() -> None:
    telling = Telling()
    assert telling.live(told("main.0.turn[1].0"), piece(0, "Done")) == ""
    assert telling.live(told("main.0.turn[2].0"), piece(0, ".")) == ""
    assert telling.rest("One moment. Done.") == "One moment. Done."


def test_what_comes_behind_a_call_of_which_something_was_lost_waits_for_the_whole_answer() -> None:
    telling = Telling()
    assert telling.live(told("main.0.turn[0].0"), piece(0, "One ")) == "One "
    assert telling.live(told("main.0.turn[0].0"), piece(9, "nt. ")) == ""
    assert telling.live(told("main.0.turn[1].0"), piece(0, "Done")) == ""
    assert telling.rest("One moment. Done.") == "moment. Done."


@pytest.mark.parametrize("again", [told(attempt=2), told(delivery=2)])
def test_a_call_that_is_made_again_is_silent_as_long_as_it_says_the_same(again: Told) -> None:
    telling = Telling()
    assert telling.live(told(), piece(0, "Once upon")) == "Once upon"
    assert telling.live(again, piece(0, "Once")) == ""
    assert telling.live(again, piece(4, " upon a")) == " a"
    assert telling.rest("Once upon a time") == " time"


def test_an_answer_that_is_another_one_is_an_error() -> None:
    telling = Telling()
    telling.live(told(), piece(0, "Once upon"))
    with pytest.raises(Conflict) as again:
        telling.live(told(attempt=2), piece(0, "Twice"))
    assert again.value.code == "chat.told_otherwise"
    with pytest.raises(Conflict):
        telling.rest("Once")
