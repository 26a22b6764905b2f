"""An answer is the pieces that came, however many; a conversation is sent as models take it."""

import pytest

from chatnest.answer import Answer
from chatnest.conversation import Message, Text, joined
from chatnest.events import Delta, Finish, Usage


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
    return tuple(Message.of(role, text) for role, text in messages)


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


def test_a_message_has_the_text_of_its_parts():
    message = Message("user", (Text("a"), Text(" b")))
    assert message.text == "a b"
    assert Message.of("user", "a b") == Message("user", (Text("a b"),))
    assert {message: 1}[Message("user", (Text("a"), Text(" b")))] == 1
    assert (repr(message), repr(Text("secret"))) == (
        "Message('user', Text(<1 characters>), Text(<2 characters>))",
        "Text(<6 characters>)",
    )


def test_a_text_in_place_of_parts_is_an_error_that_says_what_to_write():
    with pytest.raises(TypeError, match=r"got str\. Message\.of\(role, text\)"):
        Message("user", "Hello")  # type: ignore[arg-type]


def test_neighbours_of_several_parts_lose_no_text():
    messages = (Message("user", (Text("a"), Text("b"))), Message.of("user", "c"))
    assert joined(messages) == (Message.of("user", "ab\n\nc"),)
