"""Two processes give what one gives, and throw their work away where they cannot be sure."""

from __future__ import annotations

import contextlib
import io

import pytest

from pmcompat.documents.halves import Cut, find_cut, translate_halves
from pmcompat.documents.translation import Translator, translate
from pmcompat.errors import DocumentError, LossRefused

HEAD = b"<?xml version='1.0'?>\r\n<!-- > --><hosts xmlns:x='urn:>'>\n"
HOST = b"<host id='%d'><name>n</name><x:y/><power_management type='apc'><address>a%d</address></power_management></host>\n"
PLAIN = HEAD + b"".join(HOST % (i, i) for i in range(400)) + b"</hosts>\n"
TWO = b"<host><power_management><agents><agent/><agent/></agents></power_management></host>"
DEEP = HEAD + b"<!--" + PLAIN.partition(b"'>\n")[2] * 3 + b"-->" + b"</hosts>"


def both(document: bytes, tmp_path, to: str = "agents", *, lossy: bool = False):
    """Translate with two processes; return the bytes and the translator, and how many processes it took."""
    path = tmp_path / "in.xml"
    path.write_bytes(document)
    out = io.BytesIO()
    with path.open("rb") as source, (tmp_path / "spool").open("w+b") as spool:
        cut = find_cut(source, least=1000)
        if cut is None:  # the whole document is its head, and broken
            cut = Cut(head=HEAD.rstrip(b"\n"), at=document.index(b"<host ", len(document) // 2))
        translator = translate_halves(source, cut, lambda: Translator(to=to, lossy=lossy), out.write, spool)
        spool.seek(0, 2)
        return out.getvalue(), translator, spool.tell()


@pytest.mark.parametrize("to", ["agents", "flat", "dual"])
def test_a_plain_document_comes_out_as_from_one_process(tmp_path, to):
    out, translator, spooled = both(PLAIN, tmp_path, to)
    assert out == translate(PLAIN, to=to).document
    assert translator.found == 400
    assert spooled > len(PLAIN) // 3


@pytest.mark.parametrize(
    "document",
    [
        DEEP,
        PLAIN.replace(b"<name>n</name>", b"<name><![CDATA[<host >]]></name>"),
        HEAD + b"<host>" + PLAIN.partition(b"'>\n")[2].replace(b"</hosts>", b"</host></hosts>"),
        PLAIN.replace(b"<address>a399</address>", b"<options><option name='a'/></options>"),
        HEAD + b"<x>" + PLAIN.partition(b"'>\n")[2].replace(b"</hosts>", b"</x></hosts>"),
    ],
)
def test_a_cut_in_the_wrong_place_or_a_remark_changes_nothing(tmp_path, document):
    """Members inside comments, sections and other hosts; and a warning that needs its line."""
    out, translator, _ = both(document, tmp_path)
    whole = translate(document, to="agents")
    assert out == whole.document
    assert translator.warnings == whole.warnings


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (PLAIN.removesuffix(b"</hosts>\n"), DocumentError),
        (PLAIN + b"<hosts/>", DocumentError),
        (PLAIN.replace(b"<address>a399", b"<ip/><address>a399"), DocumentError),
        (PLAIN.replace(b"<address>a1</address>", b"<ip/>"), DocumentError),
        (PLAIN.replace(b"</hosts>", TWO + b"</hosts>"), LossRefused),
        (PLAIN.replace(b"<host id='3'>", TWO + b"<host id='3'>"), LossRefused),
    ],
)
def test_a_fault_in_either_half_is_the_fault_one_process_finds(tmp_path, document, error):
    to = "flat" if error is LossRefused else "agents"
    with pytest.raises(error) as one:
        translate(document, to=to)
    with pytest.raises(error) as two:
        both(document, tmp_path, to)
    assert two.value.lines() == one.value.lines()
    assert two.value.as_json() == one.value.as_json()


def test_the_same_losses_are_reported_when_lossy(tmp_path):
    document = PLAIN.replace(b"</hosts>", TWO + b"</hosts>")
    out, translator, _ = both(document, tmp_path, "flat", lossy=True)
    whole = translate(document, to="flat", lossy=True)
    assert (out, translator.losses) == (whole.document, whole.losses)


def test_many_passwords_in_answers_are_counted_together(tmp_path):
    document = PLAIN.replace(b"<host id", b"<host href='/' id").replace(b"</address>", b"</address><password>p</password>")
    out, translator, spooled = both(document, tmp_path)
    whole = translate(document, to="agents")
    assert (out, translator.warnings) == (whole.document, whole.warnings)
    assert spooled


@pytest.mark.parametrize("document", [b"<host/>" * 9, b"<vms>" + PLAIN, PLAIN.decode().encode("utf-16"), b"x" * 2000])
def test_what_cannot_be_cut_is_not_cut(tmp_path, document):
    path = tmp_path / "in.xml"
    path.write_bytes(document)
    with path.open("rb") as source, contextlib.suppress(DocumentError):
        assert find_cut(source, least=10) is None
