"""The rules without a database: numbers, pages, wire forms."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.package import Column, ColumnType, FileEntry, Signature, Task

from services.registry import wire
from services.registry.domain import key
from services.registry.domain.number import Number, Recipe, Step, explicit_number, fits_callers_of, next_number, step_between
from services.registry.domain.page import Page
from services.registry.domain.upload import Header
from services.registry.domain.version import Actor, Lineage, ModelVersion, Stage
from tests.registry.packages import SIGNATURE

NOW = datetime(2013, 5, 1, tzinfo=UTC)
NUMBERS = st.builds(Number, *(st.integers(0, 4),) * 3)
VERSION = ModelVersion(
    model="m", number=Number(1, 2, 3), recipe=Recipe("f", "a", SIGNATURE, {"depth": 3.0, "deep": {"list": [1.0, None, "x"]}}),
    files=(FileEntry("manifest.json", "0" * 64, 3),), artifact_digest="1" * 64, author=Actor("a", "person", ("viewer",)),
    created_at=NOW, stage=Stage.STAGING, metrics={"mae": 1.0}, tags={"a": "b"}, description="d",
    lineage=Lineage(job_id="j", event_time=NOW),
)  # fmt: skip


@given(NUMBERS, st.lists(NUMBERS), st.sampled_from(Step))
def test_the_next_number_is_free_and_the_rule_allows_it(base: Number, taken: list[Number], step: Step) -> None:
    """Whatever there is, the number given is new, past the base, and one a caller could have asked for."""
    number = next_number(base, step, taken)
    assert number not in taken
    assert number > base
    assert explicit_number(number, base, step) == number


@given(NUMBERS, NUMBERS, st.sampled_from(Step))
def test_an_explicit_number_takes_at_least_the_step(wanted: Number, base: Number, step: Step) -> None:
    """Accepted exactly when major, or minor within it, or patch within that grew."""
    grew = {
        Step.MAJOR: wanted.major > base.major,
        Step.MINOR: (wanted.major, wanted.minor) > (base.major, base.minor),
        Step.PATCH: wanted > base,
    }[step]
    if grew:
        assert explicit_number(wanted, base, step) == wanted
    else:
        with pytest.raises(FailedPrecondition):
            explicit_number(wanted, base, step)


def column(name: str, kind: ColumnType = ColumnType.NUMBER, *, nullable: bool = True) -> Column:
    """A column."""
    return Column(name, kind, nullable)


@pytest.mark.parametrize(
    ("after", "step"),
    [
        (Signature.of([column("a"), column("b", nullable=False)]), Step.PATCH),
        (Signature.of([column("b", nullable=False), column("a")]), Step.MINOR),
        (Signature.of([column("a"), column("b")]), Step.MINOR),
        (Signature.of([column("a"), column("b", nullable=False), column("c")]), Step.MINOR),
        (Signature.of([column("a"), column("b", nullable=False), column("c", nullable=False)]), Step.MAJOR),
        (Signature.of([column("a")]), Step.MAJOR),
        (Signature.of([column("a", nullable=False), column("b", nullable=False)]), Step.MAJOR),
        (Signature.of([column("a", ColumnType.TEXT), column("b", nullable=False)]), Step.MAJOR),
        (Signature.of([column("a"), column("b", nullable=False)], Task.CLASSIFICATION, ["x", "y"]), Step.MAJOR),
    ],
)
def test_a_signature_decides_the_step(after: Signature, step: Step) -> None:
    """Major when a row that was taken is refused now or the answer changed, minor when callers need not notice. # REG-06"""
    before = Recipe("f", "a", Signature.of([column("a"), column("b", nullable=False)]), {})
    assert step_between(before, replace(before, signature=after), retrained=True) is step
    assert fits_callers_of(before.signature, after) is (step is not Step.MAJOR)


def test_parameters_count_only_without_a_parent() -> None:
    """A retrained recipe may tune itself within a patch."""
    before, after = Recipe("f", "a", SIGNATURE, {"depth": 3}), Recipe("f", "a", SIGNATURE, {"depth": 4})
    assert step_between(before, after, retrained=True) is Step.PATCH
    assert step_between(before, after, retrained=False) is Step.MINOR
    assert step_between(before, before, retrained=False) is Step.PATCH
    assert step_between(before, replace(before, algorithm="b"), retrained=True) is Step.MINOR


@given(st.one_of(st.integers(0, 2**63 - 1), st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))))
def test_a_token_carries_its_key(last: int | str) -> None:
    """What a page ended with is where the next one goes on."""
    page = Page.of(1, "", scope="s", kind=type(last))
    _, token = page.cut([last, last], lambda row: row)
    assert Page.of(1, token, scope="s", kind=type(last)).after == last
    with pytest.raises(InvalidArgument, match="another list"):
        Page.of(1, token, scope="t", kind=type(last))


@given(st.text())
def test_no_text_passes_for_a_token(text: str) -> None:
    """Whatever comes, a page or InvalidArgument; never another error."""
    try:
        Page.of(0, text, scope="s", kind=int)
    except InvalidArgument:
        return
    assert text == ""


def test_the_last_page_has_no_token() -> None:
    """A page that is exactly full is the last one when nothing follows."""
    page = Page.of(2, "", scope="s", kind=int)
    assert page.cut([1, 2], lambda row: row) == ([1, 2], "")
    assert page.cut([], lambda row: row) == ([], "")
    assert Page.of(0, "", scope="s", kind=int).size == 50


def test_wire_forms_come_back_as_they_went() -> None:
    """Stages, times, actors, lineage and parameters survive the way out and in."""
    for stage in Stage:
        assert wire.stage_from(wire.stage_to(stage)) is stage
    assert wire.time_from(wire.time_to(NOW), "t") == NOW
    assert wire.actor_from(wire.actor_to(VERSION.author)) == VERSION.author
    assert wire.lineage_from(wire.lineage_to(VERSION.lineage)) == VERSION.lineage
    assert wire.struct_from(wire.struct_to(VERSION.parameters), "p") == VERSION.parameters


def test_a_version_on_the_wire_says_all() -> None:
    """Every field of the message is filled from the version."""
    message = wire.model_version_to(replace(VERSION, aliases=("champion",)))
    filled = {field.name for field, _ in message.ListFields()}
    assert filled == {field.name for field in message.DESCRIPTOR.fields}
    assert Signature.from_proto(message.signature) == SIGNATURE
    assert message.artifact_prefix == f"models/{VERSION.artifact_digest}"


def test_parameters_hold_what_json_can_hold() -> None:
    """Infinity and NUL are refused however deep they lie."""
    for wrong in ({"a": float("inf")}, {"a": {"b": [float("-inf")]}}, {"a": "x\x00"}, {"x\x00": 1}):
        with pytest.raises(InvalidArgument):
            wire.struct_from(wire.struct_to(wrong), "parameters")


def test_keys_are_kept_by_digest() -> None:
    """sha256 of the text (a published vector), and roles once each."""
    assert key.digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert key.checked_roles(["viewer", "admin", "viewer"]) == ("admin", "viewer")
    assert key.checked_expiry(NOW, now=NOW - timedelta(seconds=1)) == NOW


def test_the_manifest_fills_what_the_header_leaves_out() -> None:
    """Lineage, parameters and figures of the manifest count where the header says nothing."""
    from perennial.package import Manifest

    manifest = Manifest("f", "a", SIGNATURE, job="j", parent="1.0.0", parameters={"d": 1}, metrics={"mae": 2.0})
    header = Header("m", VERSION.files, lineage=Lineage(job_id="mine"), metrics={"mae": 1.0})
    draft = header.draft(manifest, author=VERSION.author, at=NOW)
    assert (draft.lineage.job_id, draft.lineage.parent) == ("mine", "1.0.0")
    assert (draft.parameters, draft.metrics) == ({"d": 1}, {"mae": 1.0})
