"""Corpora from the installed CPython: complete, clean, in a fixed order."""

import ast
import platform
import sys
import sysconfig

import pytest

from minibig.data import Corpus, corpora, docstrings, documentation, library_source
from minibig.data import statements as statements_of


def test_documentation_is_every_topic_in_order():
    corpus = documentation()
    assert list(corpus.names) == sorted(corpus.names)
    assert {"assert", "for", "while", "yield"} <= set(corpus.names)
    assert corpus.text == "\n".join(corpus.documents)
    assert 300_000 < len(corpus.text) < 1_500_000
    assert corpus.python == platform.python_version()
    assert documentation() is corpus


def test_documentation_missing_from_python_is_one_clear_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match="pydoc_data"):
        documentation.__wrapped__()


def test_library_source_is_the_library_without_its_tests():
    corpus = library_source()
    assert {"json", "json.decoder", "argparse", "email.message"} <= set(corpus.names)
    assert len(set(corpus.names)) == len(corpus) > 400
    assert sum(map(len, corpus.documents)) > 5_000_000
    for name in corpus.names:
        parts = name.split(".")
        assert not {"test", "tests", "idle_test", "site-packages"} & set(parts)
        assert "pydoc_data" not in parts and "_sysconfigdata" not in name
    with open(json_file(), encoding="utf-8") as file:
        assert corpus.documents[corpus.names.index("json.decoder")] == file.read()


def json_file():
    return f"{sysconfig.get_path('stdlib')}/json/decoder.py"


def test_named_libraries_are_that_part_of_the_whole():
    whole, part = library_source(), library_source("json", "email")
    assert set(part.libraries) == {"json", "email"}
    assert set(part.names) == {
        name for name in whole.names if name.split(".")[0] in ("json", "email")
    }
    assert part.hash != whole.hash


def test_docstrings_are_named_by_the_object_they_belong_to():
    import json

    corpus = docstrings("json")
    assert set(corpus.libraries) == {"json"}
    found = dict(zip(corpus.names, corpus.documents, strict=True))
    assert found["json"].startswith("JSON (JavaScript Object Notation)")
    assert found["json.load"].startswith("Deserialize ``fp``")
    assert "json.decoder.JSONDecoder.decode" in found
    assert json.load.__doc__.split() == found["json.load"].split()
    assert len(set(corpus.documents)) == len(corpus) > 10


def test_statements_are_distinct_lines_that_parse_to_one_statement():
    corpus = statements_of("json", "argparse", "dataclasses")
    assert len(set(corpus.documents)) == len(corpus) > 800
    for line in corpus.documents:
        assert 4 <= len(line) <= 80 and line.isascii() and line.isprintable()
        (node,) = ast.parse(line).body
        assert ast.unparse(node) == line
        assert not hasattr(node, "body")
    assert "import re" in corpus.documents
    assert all(len(s) <= 20 for s in statements_of("json", max_length=20).documents)


def test_docstrings_and_comments_are_no_statements(monkeypatch):
    source = '"""Doc."""\nx = 1\ndef f():\n    "doc"\n    return x  # why\nx  =  1\n'
    fake = Corpus("fake", (source,), ("fake",))
    monkeypatch.setattr(corpora, "library_source", lambda *libraries: fake)
    corpus = statements_of.__wrapped__("fake")
    assert corpus.documents == ("x = 1", "return x")
    assert corpus.names == ("fake", "fake.f")
    texts = docstrings.__wrapped__("fake")
    assert texts.documents == ("Doc.", "doc") and texts.names == ("fake", "fake.f")


def test_unknown_library_and_useless_length_are_refused():
    with pytest.raises(ValueError, match="no source of jsno in"):
        docstrings("json", "jsno")
    with pytest.raises(ValueError, match="at least 4"):
        statements_of("json", max_length=3)


def test_python_without_source_files_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="without the source"):
        library_source.__wrapped__()


def test_files_are_sorted_and_build_files_left_out(monkeypatch, tmp_path):
    for name in ("b.py", "a/__init__.py", "a/z.py", "a/tests/t.py", "config-3/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "_sysconfigdata_linux.py").write_text("")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    corpus = library_source.__wrapped__()
    assert corpus.names == ("a", "a.z", "b")
    assert corpus.text == "# a/__init__.py\n\n# a/z.py\n\n# b.py\n"


def test_split_puts_each_document_in_one_part_at_the_fraction_of_text():
    corpus = documentation()
    train, held_out = corpus.split(0.1)
    assert sorted(train.names + held_out.names) == list(corpus.names)
    assert not set(train.documents) & set(held_out.documents)
    share = sum(map(len, held_out.documents)) / sum(map(len, corpus.documents))
    assert 0.09 < share <= 0.1
    again = corpus.split(0.1)[1]
    assert again.hash == held_out.hash != corpus.split(0.1, seed=1)[1].hash
    assert held_out.python == corpus.python


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_split_refuses_a_fraction_outside_0_and_1(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        documentation().split(fraction)


def test_split_refuses_an_empty_part():
    with pytest.raises(ValueError, match="1 documents cannot be split"):
        Corpus("one", ("text",), ("name",)).split(0.5)


def test_hash_sees_names_documents_and_their_borders():
    hashes = {
        Corpus("c", documents, names).hash
        for documents in [("ab", "c"), ("a", "bc")]
        for names in [("x", "y"), ("x", "z")]
    }
    assert len(hashes) == 4


def test_repr_says_what_a_number_depends_on():
    corpus = Corpus("toy", ("ab", "c"), ("x", "y"), python="3.13.0")
    assert repr(corpus) == (
        f"Corpus('toy': 2 documents, 3 characters, Python 3.13.0, hash {corpus.hash})"
    )
