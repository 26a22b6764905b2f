"""An answer is the pieces that came, however many; a conversation is sent as models take it."""

import pytest

from chatnest.events import Delta, Finish, Usage
from chatnest.request import ChatMessage
from chatnest.turn import Answer, joined


@pytest.mark.parametrize("number", [0, 1, 128, 129, 130, 1_000])
@pytest.mark.parametrize("heap", [1, 7, 300])
def test_an_answer_is_its_pieces_in_their_order(number, heap):
    answer = Answer()
    texts = [f"{index}é " for index in range(number)]
    deltas = [Delta(text) for text in texts]
    for start in range(0, number, heap):
        assert answer.add(deltas[start : start + heap]) == deltas[start : start + heap]

    assert answer.text == "".join(texts)
    assert answer.tokens_left <= -max(number, len("".join(texts).encode()) // 2 - number)
    assert answer.bytes_left == -len("".join(texts).encode())


def test_what_is_no_text_is_not_shown():
    answer = Answer()
    assert answer.add([Delta("a"), Finish("stop"), Usage(1, 2)]) == [Delta("a")]
    assert (answer.text, answer.finish_reason, answer.usage) == ("a", "stop", Usage(1, 2))


def said(*messages):
    return tuple(ChatMessage(role, text) for role, text in messages)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((), ()),
        ((("user", "a"),), (("user", "a"),)),
        (
            (("user", "a"), ("assistant", "b"), ("user", "c")),
            (("user", "a"), ("assistant", "b"), ("user", "c")),
        ),
        ((("user", "a"), ("user", "b")), (("user", "a\n\nb"),)),
        (
            (("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d"), ("user", "e")),
            (("user", "a"), ("assistant", "b\n\nc"), ("user", "d\n\ne")),
        ),
        ((("system", "a"), ("system", "b")), (("system", "a\n\nb"),)),
    ],
)
def test_neighbours_of_one_role_are_sent_as_one_message(messages, expected):
    assert joined(said(*messages)) == said(*expected)
