"""What the handlers and branches of a contenox chain compute, as expressions of ours. Workflow-safe."""

from __future__ import annotations

import re
from typing import Final

from engine.core.spec.dialects.contenox import RESULTS, BranchSpec, ChainTaskSpec, Handler, Operator

TEXT: Final = "get(_, ['messages', -1, 'content'], str(_))"
"""What a model is asked: a text or number as it stands, of a conversation the last message."""

NUMBER: Final = r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
CLEAN: Final = "''.join(_.split()).strip('\"')"
"""A reply without quotes and blanks, so that `4 2` is 42."""
FIRST_NUMBER: Final = f"get(search_regex({NUMBER!r}, {CLEAN}), [0])"
NO_WHOLE_NUMBER: Final = "_ is null or float(_) % 1 != 0"
NO_RANGE: Final = f"not match_regex({r'[0-9.]+(?:-[0-9.]+)?'!r}, _)"
AS_RANGE: Final = "_ if '-' in _ else _ + '-' + _"

COMMAND: Final = (
    f"[('' if not text else (text[1:].split() or [''])[0] if text.startswith('/') else 'pass')"
    f" for text in [{TEXT}.strip()]][0]"
)
"""`/cmd rest` gives cmd, any other text pass, no text nothing."""

_SCALAR: Final = (
    "int(value) if match_regex('[-+]?[0-9]+', value)"
    r" else float(value) if match_regex('[-+]?[0-9]*\\.[0-9]+', value)"
    " else value == 'true' if value in ('true', 'false') else value"
)
KEY_VALUES: Final = (
    f"{{key: {_SCALAR}"
    f" for line in {TEXT}.replace('\\n', ';').replace(',', ';').split(';') if '=' in line or ':' in line"
    " for pair in [(line if '=' in line else line.replace(':', '=', 1)).split('=', 1)]"
    " for key, value in [(pair[0].strip(), pair[1].strip())]}"
)
"""Pairs parted by `;`, a comma or a line break, each `key=value` or `key: value`."""

CALLS: Final = "get({history}, ['messages', -1, 'callTools'], [])"


def model_messages(history: str, instruction: str = "") -> str:
    """Return the messages of a conversation in the form that models get.

    Args:
        history: Expression of the conversation.
        instruction: Expression of what the model is told first, unless the conversation holds it; empty = nothing.
    """
    listing = (
        "[{'role': message.role, 'content': get(message, 'content', ''),"
        " **({'tool_calls': message.callTools} if get(message, 'callTools') else {}),"
        " **({'tool_call_id': message.tool_call_id} if get(message, 'tool_call_id') else {})}"
        f" for message in {history}.messages]"
    )
    if not instruction:
        return listing
    known = f"any([message.role == 'system' and message.content == {instruction} for message in {history}.messages])"
    return f"([] if {known} else [{{'role': 'system', 'content': {instruction}}}]) + {listing}"


def with_reply(history: str) -> str:
    """Return the expression for a conversation with the reply `_` of the model behind it."""
    reply = (
        "{'role': 'assistant', 'content': get(reply, 'content', ''),"
        " **({'callTools': reply.tool_calls} if get(reply, 'tool_calls') else {})}"
    )
    return f"[{{**{history}, 'messages': {history}.messages + [{reply}]}} for reply in [_.choices[0].message]][0]"


COMPLETION: Final = (
    "[{'id': 'chatcmpl-' + uuid(), 'object': 'chat.completion', 'model': get(_, 'model', ''), 'choices': [{'index': 0,"
    " 'message': {'role': 'assistant', 'content': get(last, 'content', ''),"
    " **({'tool_calls': last.callTools} if get(last, 'callTools') else {})},"
    " 'finish_reason': 'tool_calls' if get(last, 'callTools') else 'stop'}],"
    " 'usage': {'prompt_tokens': get(_, 'inputTokens', 0), 'completion_tokens': get(_, 'outputTokens', 0),"
    " 'total_tokens': get(_, 'inputTokens', 0) + get(_, 'outputTokens', 0)}} for last in [_.messages[-1]]][0]"
)


def composed(other: str, strategy: str) -> str:
    """Return the expression that puts the output `_` together with a variable.

    Args:
        other: Expression of the variable.
        strategy: The chain's word for how; empty = by what the two are.
    """
    override = f"{{**_, **{other}}}"
    merge = (
        f"{{'messages': {other}.messages + _.messages, 'model': '',"
        f" 'inputTokens': get({other}, 'inputTokens', 0) + get(_, 'inputTokens', 0),"
        f" 'outputTokens': get({other}, 'outputTokens', 0) + get(_, 'outputTokens', 0)}}"
    )
    if strategy == "override":
        return override
    if strategy == "merge_chat_histories":
        return merge
    if strategy == "append_string_to_chat_history":
        return (
            "[{**history, 'messages': [{'role': 'system', 'content': text}] + history.messages} for history, text in"
            f" [(_, {other}) if get(_, 'messages') is not null else ({other}, _)]][0]"
        )
    both = f"get(input, 'messages') is not null and get({other}, 'messages') is not null"
    return f"{merge} if {both} else {override}"


def result_of(task: ChainTaskSpec) -> str:
    """Return the expression, over the handler's output `_`, of the text that branches compare with."""
    match task.handler:
        case Handler.RAW_STRING | Handler.PARSE_RANGE:
            return "_"
        case Handler.CONDITION_KEY:
            return "('true' if _ else 'false')"
        case Handler.PARSE_NUMBER:
            return "str(_)"
        case Handler.PARSE_SCORE:
            return "f'{_:.2f}'"
        case Handler.PARSE_TRANSITION:
            return COMMAND
        case Handler.MODEL_EXECUTION:
            return f"('tool-call' if {CALLS.format(history='_')} else 'executed')"
        case Handler.EXECUTE_TOOL_CALLS:
            return "('tools_executed' if get(_, ['messages', -1, 'role']) == 'tool' else 'no_calls_found')"
        case Handler.HOOK:
            return "str(_)" if task.output_template is not None else "'ok'"
        case Handler.EMBEDDING | Handler.PARSE_KEY_VALUE | Handler.CONVERT | Handler.NOOP | Handler.RAISE_ERROR:
            return repr(RESULTS.get(task.handler, ("",))[0])


def results_of(task: ChainTaskSpec) -> tuple[str, ...]:
    """Return the words that a task's result may be; empty if it may be any text."""
    if task.handler is Handler.HOOK and task.output_template is None:
        return ("ok",)
    return RESULTS.get(task.handler, ())


def matches(branch: BranchSpec, word: str) -> bool:
    """Return whether a branch takes a result that is known now; numbers are not compared here."""
    when = branch.when.text
    match branch.operator:
        case Operator.EQUALS:
            return word == when
        case Operator.CONTAINS:
            return when in word
        case Operator.STARTS_WITH:
            return word.startswith(when)
        case Operator.ENDS_WITH:
            return word.endswith(when)
        case Operator.DEFAULT:
            return True
        case Operator.GT | Operator.LT | Operator.IN_RANGE:
            return False


def condition(branch: BranchSpec, result: str) -> str | None:
    """Return the condition of a branch as an expression, or None if its `when` is no number or range.

    Args:
        branch: The branch, no default.
        result: Expression of the result it compares.
    """
    when = branch.when.text
    match branch.operator:
        case Operator.EQUALS:
            return f"{result} == {when!r}"
        case Operator.CONTAINS:
            return f"{when!r} in {result}"
        case Operator.STARTS_WITH:
            return f"{result}.startswith({when!r})"
        case Operator.ENDS_WITH:
            return f"{result}.endswith({when!r})"
        case Operator.GT | Operator.LT:
            bound = number_in(when)
            sign = ">" if branch.operator is Operator.GT else "<"
            return None if bound is None else f"{_number(result)} {sign} {bound}"
        case Operator.IN_RANGE:
            bounds = re.fullmatch(r"\s*([0-9.]+)\s*-\s*([0-9.]+)\s*", when)
            if bounds is None or number_in(bounds[1]) is None or number_in(bounds[2]) is None:
                return None
            return f"{number_in(bounds[1])} <= {_number(result)} <= {number_in(bounds[2])}"
        case Operator.DEFAULT:
            return "true"


def number_in(text: str) -> str | None:
    """Return the first number of a text as it is written, or None if there is none."""
    found = re.search(NUMBER, "".join(text.split()).strip("\"'"))
    if found is None:
        return None
    value = float(found.group())
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _number(result: str) -> str:
    # no number in the result ends the chain, as a comparison that fails does there
    return f"float(search_regex({NUMBER!r}, ''.join(({result}).split()))[0])"
