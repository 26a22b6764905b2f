"""Proofs of thinking go to a client and come back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.conversation import Reasoning
from chatnest.events import ReasoningSignature
from chatnest.wire.proofs import NO_PROOF, Proof, proof_of, seal, thinking_of, unseal

SIGNED = ReasoningSignature("sealed", "anthropic-messages", "claude", redacted=True, id="b1")
TEXTS = ("signature", "provider", "model", "id")


@given(st.builds(ReasoningSignature, *[st.text()] * 3, st.booleans(), st.text()))
def test_a_proof_comes_back_as_it_was_sealed(signature):
    proof = unseal(seal(proof_of(signature)))

    assert proof is not None
    assert proof.redacted == signature.redacted
    for name in TEXTS:  # halves of surrogate pairs have no bytes
        written = getattr(signature, name).encode("utf-8", "replace").decode()
        assert getattr(proof, name) == written


@given(st.text() | st.text().map("cn1.".__add__))
def test_a_text_of_another_server_is_not_a_proof(text):
    proof = unseal(text)

    assert proof is None or text.startswith("cn1.")


@pytest.mark.parametrize("text", ["", "x", "e30", "cn1", "CN1.e30", "cn1.", "cn1.W10", "cn1.é"])
def test_these_are_not_proofs(text):
    assert unseal(text) is None


def test_a_sealed_proof_is_opaque_and_short():
    assert seal({}) == "cn1.e30"
    assert unseal("cn1.e30") == NO_PROOF
    assert set(seal(proof_of(SIGNED))) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    )


def test_an_absent_field_is_not_in_a_proof():
    assert proof_of(ReasoningSignature("s", "p", "m")) == {
        "signature": "s",
        "provider": "p",
        "model": "m",
    }


@pytest.mark.parametrize("text", ["", None])
def test_thinking_has_a_text_or_a_signature(text):
    assert thinking_of(text, NO_PROOF) is None
    assert thinking_of(text, Proof(provider="p", model="m")) is None
    assert thinking_of(text, Proof(signature="s")) == Reasoning(text="", signature="s")
    assert thinking_of("Hm", NO_PROOF) == Reasoning(text="Hm")
