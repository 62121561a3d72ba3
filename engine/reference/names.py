"""Names that expressions see, and errors that every step can end with: what stands in no entry of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Name:
    """A name of expressions and templates.

    Attributes:
        spellings: How it is written, the name or what one reads of it.
        meaning: What it is.
    """

    spellings: tuple[str, ...]
    meaning: str

    @property
    def words(self) -> list[str]:
        """The names themselves: `steps` of `steps[2].output`."""
        return [spelling.partition(".")[0].partition("[")[0] for spelling in self.spellings]


@dataclass(frozen=True, slots=True)
class CommonFailure:
    """Errors that every step can end with.

    Attributes:
        codes: Their codes.
        when: When they come.
        remedy: What to do about them.
    """

    codes: tuple[str, ...]
    when: str
    remedy: str


NAMES: Final = (
    Name(
        ("_",),
        "the step's input: the output of the step before, the item in `foreach` and `over`, the result in `check`",
    ),
    Name(
        ("input",),
        "what the named list was given: in `main` the input of the execution, whichever step has come since",
    ),
    Name(
        ("steps['label'].output",),
        "the output of a labelled step of this named list; `.input` is what it got",
    ),
    Name(("steps[2].output",), "the output of the third step at the top level of this named list"),
    Name(("state",), "what `set` steps of this named list have kept"),
    Name(("error",), "in `on_error`: the error; in `finally`: the error or null"),
    Name(("output",), "in `finally`: the output of `main` or null"),
    Name(("results",), "in `reduce`: what the fold has given so far"),
    Name(
        ("secrets.crm",),
        "in `arguments` of a tool step: a reference to a [secret](secrets.md), which can be part of a text and nothing"
        " else",
    ),
    Name(("task.name", "execution.id", "agent.name"), "who runs"),
)
"""All names that a task itself gives to its expressions."""

COMMON_FAILURES: Final = (
    CommonFailure(
        ("expression.no_key",),
        "a member or label is not there",
        "`_.get('key', default)`; demand it in `input_schema` or `output_schema`",
    ),
    CommonFailure(
        ("expression.no_attribute", "expression.no_index"),
        "a member of null or of text; an index beyond the list",
        "test it first: `_.x if _ else 0`",
    ),
    CommonFailure(
        ("expression.type", "expression.value"),
        "an operation does not fit its values",
        "convert them: `int(_.n)`, `str(_)`",
    ),
    CommonFailure(("expression.zero_division",), "a division by zero", "`a / b if b else 0`"),
    CommonFailure(
        ("expression.not_json",),
        "the result is no JSON, such as NaN or a function",
        "compute a number, text, list or object",
    ),
    CommonFailure(
        ("expression.secret",),
        "a secret is compared, changed or looked into",
        'let it be a part of a text: `f"Bearer {secrets.crm}"`',
    ),
    CommonFailure(
        ("expression.fuel", "expression.too_large"),
        "an expression works too long, or its result is too large",
        "split the work over steps, loops or a tool",
    ),
    CommonFailure(
        ("step.timeout", "step.total_timeout"), "the step's own time limits", "raise them, or catch the error"
    ),
    CommonFailure(
        ("limit.steps", "limit.rounds", "limit.time", "limit.tokens"),
        "the [limits](language/task.md#limits) of the execution",
        "raise the limit, or look for an endless loop",
    ),
)
"""They may come from any step."""
