"""A workshop in Python: offers side by side, a model chooses, both are booked or neither, each guest gets a letter.

everstep validate task.py
everstep run task.py --input '{"topic": "Lamps", "guests": ["Ada", "Bob"], "budget": 300}'
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field

from engine import (
    Check,
    Limits,
    Require,
    Retry,
    Step,
    Task,
    ToolContext,
    call_tool,
    case,
    evaluate,
    expr,
    log,
    map_,
    otherwise,
    parallel,
    prompt,
    return_,
    run_workflow,
    switch,
    system,
    tool,
    user,
)


class Workshop(BaseModel):
    """What comes in."""

    topic: str
    guests: list[str] = Field(min_length=1, max_length=40)
    budget: float = Field(gt=0, description="In euros")


class Offer(BaseModel):
    """A room or a trainer, for a day."""

    id: str
    name: str
    price: float


class Choice(BaseModel):
    """What the model chooses."""

    room: str = Field(description="Id of a room")
    trainer: str = Field(description="Id of a trainer")


class Booking(BaseModel):
    """What was booked."""

    booking: str
    offer: str


ROOMS = [(Offer(id="r1", name="Attic", price=80), 10), (Offer(id="r2", name="Hall", price=240), 100)]
TRAINERS = [Offer(id="t1", name="Mia", price=200), Offer(id="t2", name="Tom", price=120)]
FULL = "t2"


@tool(effect="read")
def room_offers(people: int) -> list[Offer]:
    """List the rooms that are large enough.

    Args:
        people: How many will come.
    """
    return [room for room, places in ROOMS if places >= people]


@tool(effect="read")
async def trainer_offers(topic: str) -> list[Offer]:
    """List the trainers for a topic.

    Args:
        topic: What the workshop is about.
    """
    return TRAINERS if topic == "Lamps" else TRAINERS[:1]


# a tool that changes something says whether a repeated call with the same key does no harm
@tool(effect="write", idempotent=True)
def book_offer(offer: str, context: ToolContext) -> Booking:
    """Book a room or a trainer.

    Args:
        offer: Id of the offer.
        context: Holds the key that a real booking service would be given.
    """
    assert context.idempotency_key
    if offer == FULL:
        raise ValueError(f"{offer} is booked out")
    return Booking(booking=f"B-{offer}", offer=offer)


@tool(effect="write", idempotent=True)
def cancel_booking(booking: str) -> str:
    """Give a booking back.

    Args:
        booking: Its number.
    """
    return booking


def booked(label: str, offer: str) -> Step:
    """Return a step that books an offer, and gives it back if the task fails later. Steps are values like others.

    Args:
        label: Label of the step.
        offer: Expression that gives the id of the offer.
    """
    return call_tool(
        book_offer,
        {"offer": expr(offer)},
        retry=Retry(attempts=2, initial=timedelta(milliseconds=100), on=["tool.timeout"]),
        undo=call_tool(cancel_booking, {"booking": expr("_.booking")}),
        label=label,
    )


OFFERS = "steps['offers'].output.rooms + steps['offers'].output.trainers"
CHOSEN = f"[offer for offer in {OFFERS} if offer.id in (_.room, _.trainer)]"
PRICE = f"sum(offer.price for offer in {CHOSEN})"

workshop_booking = Task(
    name="workshop-booking",
    description="Book a room and a trainer for a workshop, and invite the guests.",
    input=Workshop,
    require=[
        Require(
            if_="_.budget >= 100",
            message="Nobody can have a workshop for {{ _.budget }} euros.",
        )
    ],
    limits=Limits(tokens=50_000, time="1h"),
    main=[
        parallel(
            call_tool(room_offers, {"people": expr("len(_.guests) + 1")}),
            call_tool(trainer_offers, {"topic": expr("_.topic")}),
        ),
        evaluate({"rooms": expr("_[0]"), "trainers": expr("_[1]")}, label="offers"),
        prompt(
            [
                system("Choose a room and a trainer within the budget. Reply with JSON."),
                user(
                    "{{ input.topic }} for {{ input.guests | length }}, at most {{ input.budget }} euros in all.\n"
                    "Rooms:\n{% for o in _.rooms %}{{ o.id }} {{ o.name }} {{ o.price }}\n{% endfor %}"
                    "Trainers:\n{% for o in _.trainers %}{{ o.id }} {{ o.name }} {{ o.price }}\n{% endfor %}"
                ),
            ],
            output=Choice,
            unwrap=True,
            settings={"temperature": 0, "max_tokens": 60},
            check=[
                Check(if_=f"len({CHOSEN}) == 2", message="Choose one room and one trainer of the lists."),
                Check(if_=f"{PRICE} <= input.budget", message=expr(f"str({PRICE}) + ' euros are too much.'")),
            ],
            label="choice",
        ),
        booked("room", "steps['choice'].output.room"),
        booked("trainer", "steps['choice'].output.trainer"),
        run_workflow("invite", {"guests": expr("input.guests"), "topic": expr("input.topic")}, label="letters"),
        switch(
            case("len(_) == 1", then=log("a workshop for one")),
            otherwise(log("{{ _ | length }} letters")),
        ),
        return_(
            {
                "bookings": [expr("steps['room'].output.booking"), expr("steps['trainer'].output.booking")],
                "letters": expr("_"),
            }
        ),
    ],
    workflows={
        # a sub-workflow sees its arguments as `input`, and nothing of what surrounds it
        "invite": map_(
            "_.guests",
            map=prompt(
                "Invite {{ _ }} to a workshop about {{ input.topic }} in one sentence.",
                settings={"temperature": 0.5, "max_tokens": 60},
                unwrap=True,
                label="letter",
            ),
            parallelism=3,
        )
    },
    finally_=log("{{ 'failed' if error else 'booked' }}: {{ input.topic }}"),
)
