"""The report on a terminal."""

import io
import json

from rich.console import Console

from tests.report.facts import facts, success
from tests.report.older_report import older_report
from tests.report.whole_run import PRIOR, whole_run
from xautolm_hpc.report.screen import print_prior, print_report
from xautolm_hpc.report.summary import summarise
from xautolm_hpc.view import Finish, FinishKind, RunFacts


def _printed(run: RunFacts, *, is_terminal: bool = False) -> str:
    stream = io.StringIO()
    print_report(summarise(run), Console(file=stream, width=150, force_terminal=is_terminal))
    return stream.getvalue()


def test_the_screen_shows_pareto_set_failures_rejections_cost_and_prior() -> None:
    text = _printed(whole_run())

    titles = ["Pareto set", "Failures", "Rejected before submission", "Cost", "Prior"]
    assert [title for title in titles if title not in text] == []
    assert "Prior against uniform" not in text
    assert "Experiences that moved the prior" not in text
    row = "0 distilbert-base-uncased full 0.8123 312.5 81.25"
    assert row in " ".join(text.split())
    assert "1,312" in text


def test_dominated_trials_are_left_to_the_files() -> None:
    text = _printed(whole_run())

    assert "Dominated trials" not in text
    assert "1 other trial is dominated" in text


def test_foreign_markup_and_terminal_sequences_are_printed_as_text() -> None:
    text = _printed(
        whole_run(name="\x1b[2Jrun", finish=Finish(FinishKind.STOPPED, "[bold]no\x1b[2J")), is_terminal=True
    )

    assert "\\x1b[2Jrun" in text
    assert "[bold]no\\x1b[2J" in text
    assert "\x07" not in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "\x1b]8;" not in text  # the sequence rich writes for a [link=...]
    assert "OSError: [link=http://evil]no[/link] | \\x07disk" in text


def test_a_report_read_back_from_its_file_prints_the_same() -> None:
    summary = summarise(whole_run())
    stream = io.StringIO()

    print_report(json.loads(json.dumps(summary)), Console(file=stream, width=150))

    assert stream.getvalue() == _printed(whole_run())


def test_an_older_report_with_a_score_on_test_is_printed() -> None:
    stream = io.StringIO()

    print_report(older_report(whole_run(tests={0: {"f1": 0.7}})), Console(file=stream, width=150))

    assert "On test, which no trial had seen, it has F1 0.7000." in stream.getvalue()


def test_a_uniform_prior_is_described_in_one_sentence() -> None:
    text = _printed(facts([success(0)], prior={"kind": "uniform"}))

    assert "it used no past experience" in text
    assert "Prior against uniform" not in text


def test_a_prior_that_moved_nothing_says_so() -> None:
    same = {"full": {"uniform": 1.0, "prior": 1.0}}

    text = _printed(facts([success(0)], prior={"kind": "xautolm", "models": {}, "methods": same}))

    assert "No past experience moved a model or a method" in text


def test_the_prior_alone_names_the_experiences_that_moved_it() -> None:
    stream = io.StringIO()

    print_prior(PRIOR, Console(file=stream, width=150))

    assert "0123456789abcdef" * 2 in stream.getvalue()
    assert "gpu_oom" in stream.getvalue()
    assert "1,210 records, of which 75 are no evidence" in stream.getvalue()
