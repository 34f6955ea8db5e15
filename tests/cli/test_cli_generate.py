"""`python -m minibig generate`: seeds, and folders that hold no model."""

import pytest
from command_line import refused, run

from minibig import recipes
from minibig.data import BPETokenizer, CharTokenizer, WordTokenizer
from minibig.models import GPT, GPTConfig
from minibig.recipes import save_model


def test_generate_repeats_itself_with_its_seed(capsys, finished):
    command = "generate", "--folder", finished, "--tokens", 20, "--prompt", "the"
    texts = []
    for seed in (3, 3, 4):
        assert run(*command, "--seed", seed) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) == 24 and text.startswith("the") for text in texts)


def test_generate_without_a_prompt_begins_as_after_the_end_of_a_line(capsys, finished):
    command = "generate", "--folder", finished, "--tokens", 20, "--seed", 3, "--prompt"
    texts = []
    for prompt in ("", "\n"):
        assert run(*command, prompt) == 0
        texts.append(capsys.readouterr().out)
    assert "\n" + texts[0] == texts[1] and len(texts[0]) == 21


@pytest.mark.parametrize("text", ["!?\n", "!?"])
def test_what_stands_before_an_empty_prompt_is_not_written(tmp_path, text):
    tokenizer = BPETokenizer.train(text, 256)
    if "\n" not in text:
        tokenizer = CharTokenizer.train(text)
    model = GPT(GPTConfig(tokenizer.vocab_size, 4, 1, 1, 4))
    assert recipes.write(model, tokenizer, "", 0) == ""


def test_generate_names_the_seed_it_chose(capsys, finished):
    command = "generate", "--folder", finished, "--top-k", 5, "--top-p", 0.9
    assert run(*command) == 0
    said, told = capsys.readouterr()
    assert run(*command, "--seed", told.split()[1]) == 0
    assert capsys.readouterr().out == said


def test_generate_refuses_a_character_it_does_not_know(capsys, finished):
    said = refused(capsys, "generate", "--folder", finished, "--prompt", "the é")
    assert "'é'" in said and "vocabulary" in said
    assert "--prompt: character" in said and "BPETokenizer" not in said


def test_generate_shows_a_word_it_does_not_know_without_its_space(capsys, tmp_path):
    tokenizer = WordTokenizer.train("the cat sees the bird", unknown=False)
    model = GPT(GPTConfig(tokenizer.vocab_size, 4, 1, 1, 4))
    save_model(model, tokenizer, tmp_path)
    said = refused(capsys, "generate", "--folder", tmp_path, "--prompt", "the zzz")
    assert "--prompt: word 'zzz' is not in" in said and "unknown=True" not in said


@pytest.mark.parametrize(
    ("name", "contents", "fact"),
    [
        ("config.json", b"{", "is not JSON"),
        ("config.json", b"[]", "not of a model from here"),
        ("config.json", b'{"model": "gpt"}', "do not go together"),
        ("tokenizer.json", b"{}", "not a tokenizer file"),
        ("model.safetensors", b"x" * 40, "model.safetensors"),
    ],
)
def test_generate_refuses_damaged_files(
    capsys, finished, tmp_path, name, contents, fact
):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in finished.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes(contents)
    assert fact in refused(capsys, "generate", "--folder", folder)
    (folder / name).unlink()
    said = refused(capsys, "generate", "--folder", folder)
    assert ("unfinished run" if name == "config.json" else name) in said


def test_generate_tells_an_unfinished_run_from_no_model(capsys, finished, tmp_path):
    assert "there is no model in" in refused(capsys, "generate", "--folder", "none")
    (tmp_path / "half").mkdir()
    checkpoint = max(finished.glob("checkpoint-*"))
    (tmp_path / "half" / checkpoint.name).write_bytes(checkpoint.read_bytes())
    assert "unfinished run" in refused(capsys, "generate", "--folder", "half")
