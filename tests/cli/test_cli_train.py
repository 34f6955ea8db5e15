"""`python -m minibig train` and `demo`: results, resuming, what goes wrong."""

import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from command_line import TEXT, TINY, in_python, refused, results, run, train

from minibig import backend, recipes
from minibig.data.corpora import Corpus
from minibig.data.fingerprint import fingerprint
from minibig.data.text import share_of_known_words
from minibig.presets import PRESETS

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
presets.PRESETS["tiny"] = presets.GPTPreset(**{settings!r})
cli.main({arguments!r})
"""

TRAINED = """
import sys
from minibig import cli, presets
presets.PRESETS["tiny"] = presets.GPTPreset(**{settings!r})
sys.exit(cli.main({arguments!r}))
"""


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
    assert "all 3 steps are done already" in capsys.readouterr().out
    assert results(Path("runs/tiny")) == before
    for checkpoint in Path("runs/tiny").glob("checkpoint-*"):
        checkpoint.unlink()
    assert train("--text", text_file, "--steps", 3, "--sample", 0) == 0
    out = capsys.readouterr().out
    assert "step 3/3" in out and "already" not in out


def test_a_cut_checkpoint_is_one_line_and_the_one_before_is_used(text_file, tmp_path):
    options = ["--text", str(text_file), "--sample", "0"]
    code = TRAINED.format(
        settings=dataclasses.asdict(TINY),
        arguments=["train", "--preset", "tiny", *options],
    )
    assert in_python("-c", code, cwd=tmp_path).returncode == 0
    last = max(Path("runs/tiny").glob("checkpoint-*"))
    last.write_bytes(last.read_bytes()[:1000])
    done = in_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0 and "going on from step 27" in done.stdout
    assert done.stderr.startswith(f"minibig: {last}: ")
    assert done.stderr.count("\n") == 1 and "Warning" not in done.stderr


def test_other_words_for_a_preset_leave_its_runs_as_they_are(
    capsys, text_file, monkeypatch
):
    assert train("--text", text_file, "--sample", 0) == 0
    reworded = dataclasses.replace(TINY, about="in other words", prompt="s")
    monkeypatch.setitem(PRESETS, "tiny", reworded)
    assert train("--text", text_file, "--sample", 0) == 0
    assert "all 30 steps are done already" in capsys.readouterr().out


def test_steps_and_seed_override_the_preset(text_file):
    assert train("--text", text_file, "--steps", 2, "--seed", 7, "--sample", 0) == 0
    noted = json.loads(Path("runs/tiny/config.json").read_bytes())["preset"]
    assert (noted["steps"], noted["seed"], noted["warmup"]) == (2, 7, 1)


def test_precision_is_the_runs_own_and_trains_close_to_float32(capsys, text_file):
    half = ("--text", text_file, "--sample", 0, "--precision", "fp16")
    assert train(*half) == train(*half[:-2], "--folder", "runs/single") == 0
    half_loss, loss = (results(Path("runs", n))["loss"] for n in ("tiny", "single"))
    assert half_loss == pytest.approx(loss, abs=0.05) and half_loss != loss
    said = refused(capsys, "train", "--preset", "tiny", *half[:-2])
    assert "another run" in said


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
    found = {"excess": 0.0213, "standard_error": 0.0008}
    said = PRESETS["gpt"].describe(found)
    assert said.startswith("2.13% ± 0.08% above the floor of ")


# ---- the demo ------------------------------------------------------------------------


def test_demo_trains_once_and_then_writes_from_the_finished_model(capsys, monkeypatch):
    assert run("demo") == 0
    first = capsys.readouterr().out
    assert "step 30/30" in first and "of its words" in first
    assert run("demo") == 0
    again = capsys.readouterr().out
    assert "runs/demo holds the finished demo" in again and "of its words" in again
    assert "step" not in again
    reworded = dataclasses.replace(TINY, about="in other words", prompt="s")
    monkeypatch.setitem(PRESETS, "demo", reworded)
    assert run("demo") == 0
    assert "runs/demo holds the finished demo" in capsys.readouterr().out


@pytest.mark.parametrize("bytes_left", [1000, None])
def test_a_damaged_demo_says_to_remove_its_folder(capsys, bytes_left):
    assert run("demo") == 0
    weights = Path("runs/demo/model.safetensors")
    if bytes_left is None:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:bytes_left])
    said = refused(capsys, "demo")
    assert f"{weights}: " in said
    assert said.endswith("; remove runs/demo to train it again\n")
    shutil.rmtree("runs/demo")
    assert run("demo") == 0


def test_a_finished_demo_without_its_gpu_is_not_to_be_removed(capsys, monkeypatch):
    def missing():
        raise backend.DeviceError('device "cuda" needs CuPy')

    assert run("demo") == 0
    monkeypatch.setattr(backend, "cupy", missing)
    assert "remove" not in refused(capsys, "demo", "--device", "cuda")


def test_share_of_known_words_counts_words_of_three_letters():
    assert share_of_known_words("The cat, THE dgo! an x1y", "the cat an dog") == 0.75
    assert share_of_known_words("été au café", "ÉTÉ") == 0.5
    assert share_of_known_words("a 12 ?", "the cat") == 0


def test_a_text_of_ones_own_is_noted_by_name_and_hash(capsys, text_file):
    options = ("--steps", 2, "--sample", 0, "--folder", "here")
    assert train("--text", text_file, *options) == 0

    def noted():
        return json.loads(Path("here/config.json").read_bytes())["preset"]["corpus"]

    assert noted() == f"text.txt, hash {fingerprint(TEXT)}"
    renamed = text_file.rename(text_file.with_name("renamed.txt"))
    assert train("--text", renamed, *options) == 0
    assert "all 2 steps are done already" in capsys.readouterr().out
    assert noted().startswith("renamed.txt")
    trained = recipes.train(TINY, "there", text=TEXT, say=lambda text: None)
    assert trained.results
    config = json.loads(Path("there/config.json").read_bytes())
    assert config["preset"]["corpus"] == f"a text, hash {fingerprint(TEXT)}"


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
