"""The book's preprocessor, on notebooks made by hand; mdBook itself is not needed."""

import base64
import copy
import io
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import book, book_site
from tools.cells import BEGIN, END
from tools.kernels import ROOT

PATHS = {"00_a.ipynb", "01_b.ipynb"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"  # the head of a picture, 1 by 1


def picture(alt):
    data, metadata = {"image/png": PIXEL}, {"image/png": {"alt": alt}}
    return new_output("display_data", data=data, metadata=metadata)


def chapter_of(*cells, solved=None):
    learner, paired = new_notebook(cells=list(cells)), solved or cells
    return book.to_markdown(learner, new_notebook(cells=list(paired)), PATHS)


def test_formulas_become_mathml_and_no_dollar_stays():
    text = chapter_of(new_markdown_cell("If $x^2 = 4$ then\n\n$$x = \\pm 2$$"))
    assert text.count("<math") == 2 and "$" not in text


def test_functions_in_formulas_stand_apart_from_their_neighbours():
    formula = book.mathml(r"2\ln 4 + \log_2 8 - \exp(x)", "inline")
    assert '<mo lspace="0.167em" rspace="0.167em">ln</mo><mn>4</mn>' in formula
    assert '<msub><mo lspace="0" rspace="0.167em">log</mo><mn>2</mn></msub>' in formula
    assert '<mo lspace="0" rspace="0">exp</mo>' in formula


def test_a_comma_stays_with_its_formula():
    text = book.markdown("If $x$, then $y$ holds.", PATHS)
    assert "</math>,</span> then <math" in text


def test_infinity_is_no_operator():
    assert "<mi>&#8734;</mi>" in book.mathml(r"-\infty", "inline")


def test_what_a_cell_prints_in_pieces_is_one_text():
    pieces = [new_output("stream", name="stdout", text=t) for t in ("a\n", "b\n")]
    assert "```text\na\nb\n```" in chapter_of(new_code_cell("f()", outputs=pieces))


def test_a_dollar_in_code_stays_a_dollar():
    text = chapter_of(new_markdown_cell("Write `echo $HOME` or\n\n```\ncost = $5\n```"))
    assert "`echo $HOME`" in text and "cost = $5" in text and "<math" not in text


@pytest.mark.parametrize("source", ["It costs $5.", "An odd $x + 1 and no end"])
def test_a_lone_dollar_is_refused(source):
    with pytest.raises(book.BookError, match=r"\$"):
        chapter_of(new_markdown_cell(source))


def test_an_unknown_command_in_a_formula_is_refused():
    with pytest.raises(book.BookError, match="MathML"):
        chapter_of(new_markdown_cell(r"$\unheardof{x}$"))


def test_links_between_notebooks_lead_to_pages():
    text = chapter_of(
        new_markdown_cell("See [01](01_b.ipynb) and [it](../minibig/x.py)")
    )
    assert "(01_b.html)" in text and "minibig/x.py" not in text and "and it" in text


def test_a_link_to_no_chapter_is_refused():
    with pytest.raises(book.BookError, match="02_c"):
        chapter_of(new_markdown_cell("See [02](02_c.ipynb)"))


def test_a_picture_is_in_the_page_with_its_alternative_text():
    text = chapter_of(new_code_cell("plot()", outputs=[picture('a "curve"')]))
    assert f"data:image/png;base64,{PIXEL}" in text
    assert 'alt="a &quot;curve&quot;"' in text


def test_a_picture_stands_in_a_box_that_knows_its_width():
    file = io.BytesIO()
    Image.new("RGB", (1222, 2)).save(file, "png")
    output = picture("a graph")
    output.data["image/png"] = base64.encodebytes(file.getvalue()).decode()
    text = chapter_of(new_code_cell("plot()", outputs=[output]))
    assert '<div class="picture" style="--width: 1222px"><img alt="a graph"' in text


def test_hidden_code_is_folded_away_and_its_outputs_are_not():
    printed = [new_output("stream", name="stdout", text="42 rows\n"), picture("plot")]
    cell = new_code_cell("# NBVAL_SKIP\ndraw(x)", outputs=printed)
    assert "<details>" not in chapter_of(cell)
    cell.metadata["jupyter"] = {"source_hidden": True}
    folded, shown = chapter_of(cell).split("</details>")
    assert "<details><summary>Code</summary>" in folded and "draw(x)" in folded
    assert "42 rows" in shown and 'alt="plot"' in shown
    assert "42 rows" not in folded and "python" not in shown and "NBVAL" not in folded


def test_a_picture_that_says_nothing_is_refused():
    with pytest.raises(book.BookError, match="alternative text"):
        chapter_of(new_code_cell("plot()", outputs=[picture(" ")]))


def test_solutions_are_folded_away_under_the_stub():
    stub = new_code_cell('def f():\n    raise NotImplementedError("your turn")')
    solution = new_code_cell(f"def f():\n    {BEGIN}\n    return 42\n    {END}")
    text = chapter_of(stub, solved=[solution])
    before, after = text.split("<details>")
    assert "your turn" in before and "42" not in before
    assert "return 42" in after and BEGIN not in text and "</details>" in after


@pytest.mark.parametrize("key", ["sections", "items"])
def test_both_versions_of_the_protocol_are_spoken(key, tmp_path):
    notebook = new_notebook(cells=[new_markdown_cell("# A\n\n$x$")])
    folder = tmp_path / "src" / "solutions"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / "00_a.ipynb")
    chapter = {"path": "00_a.ipynb", "content": nbformat.writes(notebook)}
    draft = {"Chapter": {"path": None, "content": "", "sub_items": []}}
    items = [{"Chapter": chapter | {"sub_items": [copy.deepcopy(draft)]}}, "Separator"]
    context = {"root": str(tmp_path), "config": {"book": {"src": "src"}}}
    found = book.preprocess(context, {key: items})
    assert "<math" in found[key][0]["Chapter"]["content"]
    before = json.loads((folder / "00_a.ipynb").read_text())
    assert before["cells"][0]["source"]  # the source folder is as it was
    assert sorted(p.name for p in (tmp_path / "src").rglob("*")) == [
        "00_a.ipynb", "solutions",
    ]  # fmt: skip


def test_only_html_is_supported():
    assert book.main(["supports", "html"]) == 0
    assert book.main(["supports", "epub"]) == 1


def test_a_theme_without_icons_has_characters():
    template = '<i>{{fa "solid" "bars"}}</i><b>{{fa kind name}}{{title}}</b>'
    assert book_site.with_signs(template) == "<i>☰</i><b>{{title}}</b>"


@pytest.mark.parametrize(
    ("file", "asks"),
    [
        ("fonts/fonts-1.css", '<link rel="stylesheet" href="fonts/fonts-1.css">'),
        ("book-1a.js", '<script src="book-1a.js"></script>'),
        ("book.js", '<script src="../book.js"></script>'),
    ],
)
def test_a_page_asks_for_nothing_that_mdbook_left_out(file, asks, tmp_path):
    path = tmp_path / "a.html"
    (tmp_path / "fonts").mkdir()
    (tmp_path / file).write_text("")
    path.write_text(f"<p>é</p>{asks}<script src='toc.js'></script>", "utf-8")
    book_site.drop_what_is_missing(tmp_path)
    assert asks in path.read_text("utf-8")
    (tmp_path / file).unlink()
    book_site.drop_what_is_missing(tmp_path)
    assert path.read_text("utf-8") == "<p>é</p><script src='toc.js'></script>"


def page(tmp_path, body):
    (tmp_path / "searchindex.js").write_text("")
    (tmp_path / "a.html").write_text(f"<html><body><math></math>{body}</body></html>")
    return book_site.faults(tmp_path)


def test_a_sound_page_has_no_fault(tmp_path):
    assert page(tmp_path, '<p id="x">y</p><a href="a.html#x">z</a>') == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>costs $5 and more</p>", "raw [$]"),
        ('<a href="b.html">b</a>', "leads nowhere"),
        ('<a href="a.html#z">z</a>', "leads to no place"),
        ('<img src="data:,x">', "say nothing"),
        ('<img alt="x" src="gone.png">', "gone.png leads nowhere"),
        ('<script src="https://example.org/x.js"></script>', "from elsewhere"),
        ('<script src="gone.js"></script>', "gone.js leads nowhere"),
        ('<link rel="stylesheet" href="fonts/fonts.css">', "fonts.css leads nowhere"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, body, fault):
    with pytest.raises(AssertionError, match=fault):
        assert page(tmp_path, body) == [], page(tmp_path, body)


def test_the_summary_lists_the_notebooks_that_exist():
    text = (ROOT / "notebooks" / "SUMMARY.md").read_text("utf-8")
    there = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {name for name in there if f"({name})" in text} == there
    assert text.count(".ipynb)") == len(there)
