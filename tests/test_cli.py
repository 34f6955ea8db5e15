"""`python -m minibig`: the commands, resuming, and one sentence for each mistake."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import minibig
from minibig import backend, cli, commands, recipes
from minibig.data.corpora import Corpus
from minibig.data.text import read_text, share_of_known_words
from minibig.presets import PRESETS, Preset

ROOT = Path(minibig.__file__).parent.parent
WORDS = "the small cat sees one old bird and that bird sees the cat again"
TEXT = "\n".join(f"{n}: {WORDS}" for n in range(60))
TINY = Preset(
    about="for tests", corpus="documentation", tokenizer="char", vocab_size=None,
    context_length=8, n_layer=1, n_head=2, n_embd=16, batch_size=4, steps=30, lr=1e-2,
    min_lr=1e-3, warmup=3, prompt="t",
)  # fmt: skip

# A run that dies as by a power cut, right after its checkpoint of step 12.
KILLED = """
import os, signal, sys
import minibig.training
from minibig import cli, presets
fit = sys.modules["minibig.training.fit"]
save = fit.save_checkpoint
def save_and_die(folder, step, *rest):
    save(folder, step, *rest)
    if step == 12:
        os.kill(os.getpid(), signal.SIGKILL)
fit.save_checkpoint = save_and_die
presets.PRESETS["tiny"] = presets.Preset(**{settings!r})
cli.main({arguments!r})
"""


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """The presets "tiny" and, as small, "demo"; the current folder is a fresh one."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    monkeypatch.setitem(PRESETS, "demo", TINY)
    corpus = Corpus("test", (TEXT,), ("only",))
    monkeypatch.setitem(recipes.CORPORA, "documentation", lambda: corpus)
    monkeypatch.setattr(commands, "DEMO_TOKENS", 30)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a run of the preset "tiny" has ended."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipes.train(TINY, folder, text=TEXT, say=lambda text: None)
    return folder


def run(*arguments):
    """The exit code, also where argparse exits."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def refused(capsys, *arguments):
    """The one sentence on stderr of a command that was asked wrongly."""
    capsys.readouterr()
    assert run(*arguments) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and "Traceback" not in sentence
    return sentence


def train(*arguments):
    return run("train", "--preset", "tiny", *arguments)


def results(folder):
    return json.loads((folder / "config.json").read_bytes())["results"]


# ---- training ------------------------------------------------------------------------


def test_training_prints_falling_loss_results_and_a_sample(capsys, text_file):
    assert train("--text", text_file, "--sample", 20) == 0
    out = capsys.readouterr().out
    losses = [float(line.split("train ")[1].split()[0])
              for line in out.splitlines() if line.startswith("step")]  # fmt: skip
    assert len(losses) == 10 and losses[-1] < losses[0]
    for part in ("held out: loss", "perplexity", "minutes", "--folder runs/tiny"):
        assert part in out
    assert Path("runs/tiny/model.safetensors").exists()


def test_a_finished_run_says_so_and_ends_with_the_same_results(capsys, text_file):
    assert train("--text", text_file, "--steps", 3, "--sample", 0) == 0
    before = results(Path("runs/tiny"))
    assert train("--text", text_file, "--steps", 3, "--sample", 0) == 0
    assert "finished already: all 3 steps" in capsys.readouterr().out
    assert results(Path("runs/tiny")) == before


def test_steps_and_seed_override_the_preset(text_file):
    assert train("--text", text_file, "--steps", 2, "--seed", 7, "--sample", 0) == 0
    noted = json.loads(Path("runs/tiny/config.json").read_bytes())["preset"]
    assert (noted["steps"], noted["seed"], noted["warmup"]) == (2, 7, 1)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX's")
def test_a_killed_run_goes_on_and_ends_as_an_uninterrupted_one(
    capsys, text_file, tmp_path
):
    options = ["--text", str(text_file), "--sample", "0", "--folder", "killed"]
    code = KILLED.format(
        settings=dataclasses.asdict(TINY),
        arguments=["train", "--preset", "tiny", *options],
    )
    done = in_python("-c", code, cwd=tmp_path)
    assert (
        done.returncode == -signal.SIGKILL and not Path("killed/config.json").exists()
    )
    assert train(*options) == 0
    assert "going on from step 12 of killed" in capsys.readouterr().out
    assert train("--text", text_file, "--sample", 0, "--folder", "whole") == 0
    assert results(Path("killed")) == results(Path("whole"))


def test_ctrl_c_saves_says_how_to_go_on_and_exits_with_130(
    capsys, text_file, monkeypatch
):
    fit = sys.modules["minibig.training.fit"]
    save, calls = fit.save_checkpoint, []

    def save_and_interrupt(folder, step, *rest):
        save(folder, step, *rest)
        calls.append(step)
        if calls == [3, 6]:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fit, "save_checkpoint", save_and_interrupt)
    assert train("--text", text_file, "--folder", "stopped") == 130
    out = capsys.readouterr().out
    assert "stopped after step 6 of 30" in out and "run the same again" in out
    monkeypatch.setattr(fit, "save_checkpoint", save)
    assert train("--text", text_file, "--folder", "stopped") == 0
    assert "going on from step 6" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, on the way to inf
def test_a_divergence_exits_with_1_and_names_the_step(capsys, text_file, monkeypatch):
    wild = dataclasses.replace(TINY, lr=1e30, min_lr=1e30, warmup=0)
    monkeypatch.setitem(PRESETS, "tiny", wild)
    assert train("--text", text_file) == 1
    assert "step 2: the loss is" in capsys.readouterr().err


def test_a_bug_still_shows_its_traceback(text_file, monkeypatch):
    def broken(*arguments, **settings):
        raise ValueError("a bug")

    monkeypatch.setattr(recipes, "fit", broken)
    with pytest.raises(ValueError, match="a bug"):
        train("--text", text_file)


def test_results_on_tales_are_the_excess_over_the_floor():
    said = commands.describe_results({"excess": 0.0213, "standard_error": 0.0008})
    assert said.startswith("2.13% ± 0.08% above the floor of ")


# ---- the demo ------------------------------------------------------------------------


def test_demo_trains_once_and_then_writes_from_the_finished_model(capsys):
    assert run("demo") == 0
    first = capsys.readouterr().out
    assert "step 30/30" in first and "of its words" in first
    assert run("demo") == 0
    again = capsys.readouterr().out
    assert "runs/demo holds the finished demo" in again and "of its words" in again
    assert "step" not in again


def test_share_of_known_words_counts_words_of_three_letters():
    assert share_of_known_words("The cat, THE dgo! an x1y", "the cat an dog") == 0.75
    assert share_of_known_words("été au café", "ÉTÉ") == 0.5
    assert share_of_known_words("a 12 ?", "the cat") == 0


# ---- generating ----------------------------------------------------------------------


def test_generate_repeats_itself_with_its_seed(capsys, finished):
    command = "generate", "--folder", finished, "--tokens", 20, "--prompt", "the"
    texts = []
    for seed in (3, 3, 4):
        assert run(*command, "--seed", seed) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) == 24 and text.startswith("the") for text in texts)


def test_generate_names_the_seed_it_chose(capsys, finished):
    command = "generate", "--folder", finished, "--top-k", 5, "--top-p", 0.9
    assert run(*command) == 0
    said, told = capsys.readouterr()
    assert run(*command, "--seed", told.split()[1]) == 0
    assert capsys.readouterr().out == said


def test_generate_refuses_a_character_it_does_not_know(capsys, finished):
    said = refused(capsys, "generate", "--folder", finished, "--prompt", "the é")
    assert "'é'" in said and "vocabulary" in said


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


# ---- asked wrongly -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "fact"),
    [
        (b"some text\0more", "byte 9 is NUL"),
        (b"caf\xe9 latin", "byte 3, 0xe9"),
        (b"\xef\xbb\xbfcaf\xe9", "byte 6, 0xe9"),
        ("wide".encode("utf-16"), "UTF-16"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"far too short", "too short"),
    ],
)
def test_a_text_that_cannot_be_learnt_from_is_one_sentence(
    capsys, tmp_path, contents, fact
):
    path = tmp_path / "text.txt"
    path.write_bytes(contents)
    assert fact in refused(capsys, "train", "--preset", "tiny", "--text", path)
    assert not Path("runs").exists()


def test_text_keeps_its_line_ends_and_loses_its_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "one\r\ntwo\rthree\n"


def test_missing_files_and_folders_in_place_of_files_are_one_sentence(capsys, tmp_path):
    command = "train", "--preset", "tiny", "--text"
    assert "nowhere.txt: No such file" in refused(capsys, *command, "nowhere.txt")
    assert "is a folder" in refused(capsys, *command, tmp_path)
    if os.path.exists("/dev/zero"):
        assert "not a regular file" in refused(capsys, *command, "/dev/zero")


def test_a_file_in_place_of_the_folder_is_one_sentence(capsys, text_file):
    for folder in (text_file, text_file / "inside"):
        said = refused(capsys, "train", "--preset", "tiny", "--folder", folder)
        assert "text.txt is a file" in said


def test_another_recipe_or_text_in_the_folder_is_one_sentence(capsys, finished):
    command = "train", "--preset", "tiny", "--folder", finished
    said = refused(capsys, *command, "--steps", 9)
    assert "another run: the data (hash)" in said or "another run: steps was 30" in said
    other = Path("other.txt")
    other.write_text(TEXT.replace("cat", "dog"), "utf-8")
    said = refused(capsys, *command, "--text", other)
    assert "belongs to another run: the data (hash) was" in said


def test_cuda_without_a_gpu_is_one_sentence(capsys, finished, monkeypatch):
    def missing():
        raise backend.DeviceError('device "cuda" needs CuPy')

    monkeypatch.setattr(backend, "cupy", missing)
    for command in (
        ("train", "--preset", "tiny"),
        ("demo",),
        ("generate", "--folder", finished),
    ):
        said = refused(capsys, *command, "--device", "cuda")
        assert 'device "cuda" needs CuPy' in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((), "name a command: train"),
        (("fly",), "invalid choice: 'fly'"),
        (("train",), "--preset NAME: demo, nanogpt-cpu, tales"),
        (
            ("train", "--preset", "tiny", "--steps", "0"),
            "'0' is no whole number from 1",
        ),
        (("train", "--preset", "tiny", "--steps", "1.5"), "'1.5' is no whole number"),
        (("train", "--preset", "tiny", "--seed", "-1"), "--seed"),
        (("train", "--preset", "tiny", "--device", "tpu"), "'tpu'"),
        (("generate",), "--folder"),
        (("generate", "--folder", "x", "--temperature", "nan"), "'nan' is no number"),
        (("generate", "--folder", "x", "--top-k", "0"), "'0' is no whole number"),
        (("generate", "--folder", "x", "--top-p", "0"), "above 0 to 1"),
        (("generate", "--folder", "x", "--tokens", "many"), "'many'"),
    ],
)
def test_bad_arguments_are_one_sentence(capsys, arguments, fact):
    assert fact in refused(capsys, *arguments)


def test_list_and_an_unknown_preset_describe_the_presets(capsys):
    assert run("train", "--list") == 0
    listed = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert any(
            line.startswith(name) and line.endswith(preset.about)
            for line in listed.splitlines()
        )
    assert run("train", "--preset", "nanogtp") == 2
    said = capsys.readouterr().err
    assert "no preset 'nanogtp'" in said and said.endswith(listed)


# ---- in a process of its own ---------------------------------------------------------


def in_python(*arguments, cwd, stdout=subprocess.PIPE):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = in_python("-m", "minibig", "train", "--list", cwd=tmp_path, stdout=pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_m_minibig_answers(tmp_path):
    done = in_python("-m", "minibig", "--version", cwd=tmp_path)
    assert done.stdout == f"minibig {minibig.__version__}\n" and done.returncode == 0
    done = in_python("-m", "minibig", "train", "--text", "no.txt", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_the_command_line_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, minibig.cli as cli; cli.make_parser(); "
        "print([m for m in ('scipy', 'tqdm', 'torch', 'minibig.recipes', "
        "'minibig.doctor') if m in sys.modules])"
    )
    assert in_python("-c", code, cwd=tmp_path).stdout == "[]\n"


@pytest.fixture
def small_bench(monkeypatch):
    """minibig.bench with next to nothing to compute, and without PyTorch."""
    from minibig import bench

    monkeypatch.setattr(bench, "SECONDS", 0)
    monkeypatch.setattr(bench, "SIDE", 8)
    monkeypatch.setattr(bench, "ELEMENTS", 64)
    monkeypatch.setattr(bench, "ATTENTION", (1, 2, 8, 4))
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    return bench


def test_bench_prints_a_row_for_each_task(capsys, small_bench):
    threads = minibig.get_num_threads()
    assert run("bench") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "1 thread" in lines[0] and "PyTorch" not in lines[0]
    assert all(float(line.split()[-1].replace(",", "")) >= 0 for line in lines[1:])
    assert minibig.get_num_threads() == threads


@pytest.mark.oracle
def test_bench_gives_pytorch_the_same_tasks_and_the_same_model(small_bench):
    torch = pytest.importorskip("torch")
    ours, theirs = small_bench.ours(1), small_bench.theirs(1)
    assert [task for task, _ in ours] == [task for task, _ in theirs]
    _, parameters = small_bench._torch_gpt(torch)
    model = small_bench.GPT(small_bench.CONFIG)
    assert sum(p.numel() for p in parameters) == model.num_parameters()


# ---- corpora by name ----------------------------------------------------------------


def test_another_corpus_is_learnt_by_name(monkeypatch, tmp_path):
    statements = Corpus("statements", tuple(TEXT.splitlines()), ("a",) * 60)
    monkeypatch.setitem(recipes.CORPORA, "statements", lambda: statements)
    assert train("--corpus", "statements", "--steps", 2, "--folder", "here") == 0
    assert json.loads(Path("here/config.json").read_bytes())["preset"]["corpus"] == (
        "statements"
    )


def test_unknown_corpus_and_two_sources_are_one_sentence_each(capsys, text_file):
    sentence = refused(capsys, "train", "--preset", "tiny", "--corpus", "sonnets")
    assert "'sonnets'" in sentence and "tiny-shakespeare" in sentence
    both = ("--corpus", "documentation", "--text", text_file)
    assert "give one" in refused(capsys, "train", "--preset", "tiny", *both)
