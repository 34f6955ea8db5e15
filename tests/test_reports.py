"""What notebooks show of a benchmark that ran on another machine."""

import pytest

from minibig.exercises import recorded

REPORT = "# Attention\n\n2026-01-02, a GPU\n\n## float32\n\none\n\n## bfloat16\n\ntwo\n"


def test_newest_report_is_shown_with_its_machine_first(tmp_path, capsys):
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"gpu_attention-{day}.md").write_text(REPORT.replace("one", day))
    recorded("gpu_attention", folder=tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("Recorded in gpu_attention-2026-01-02.md:\n\n# Attention")
    assert "float32\n\n2026-01-02" in out and "2026-01-01" not in out


def test_one_section_of_a_report(tmp_path, capsys):
    (tmp_path / "gpu_attention-2026-01-02.md").write_text(REPORT)
    recorded("gpu_attention", "bfloat16", folder=tmp_path)
    out = capsys.readouterr().out
    assert "a GPU" in out and out.endswith("two\n") and "one" not in out


def test_heading_that_a_report_has_not_is_named(tmp_path):
    (tmp_path / "gpu_attention-2026-01-02.md").write_text(REPORT)
    with pytest.raises(ValueError, match="no section 'float64', but"):
        recorded("gpu_attention", "float64", folder=tmp_path)


def test_missing_report_names_the_command_and_no_figure(tmp_path, capsys):
    recorded("gpu_train", folder=tmp_path)
    assert "python benchmarks/gpu_train.py" in capsys.readouterr().out
