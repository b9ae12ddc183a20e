"""What a profile says of Slurm becomes lines of a script: what would be more than an option is refused."""

from pathlib import Path

import pytest

from xautolm_hpc.config import load_profile
from xautolm_hpc.config.slurm_options import OF_THE_PROGRAM
from xautolm_hpc.errors import ConfigError

PROFILE = 'launcher = "slurm"\nworker_python = "python"\n[slurm]\n'


def profile(folder: Path, text: str) -> Path:
    """Write a profile whose ``[slurm]`` section is a text."""
    path = folder / "cluster.toml"
    path.write_text(PROFILE + text)
    return path


@pytest.mark.parametrize(
    "name", ["account", "partition", "qos", "gres", "constraint", "exclude", "reservation", "wckey"]
)
@pytest.mark.parametrize("written", [r"a\ntouch /tmp/run", r"a\rb", r"\u0000", r"\u007f"])
def test_a_control_character_is_refused(tmp_path: Path, name: str, written: str) -> None:
    with pytest.raises(ConfigError, match=rf"slurm\.{name} = .*: expected text without control characters"):
        load_profile(profile(tmp_path, f'{name} = "{written}"'))


@pytest.mark.parametrize("name", OF_THE_PROGRAM)
def test_options_that_change_what_a_job_is_are_refused(tmp_path: Path, name: str) -> None:
    spellings = {name, name.replace("-", "_")}

    for spelling in spellings:
        with pytest.raises(ConfigError, match=rf"slurm\.options: '{spelling}': {OF_THE_PROGRAM[name]}"):
            load_profile(profile(tmp_path, f'[slurm.options]\n{spelling} = "x"'))


@pytest.mark.parametrize("name", ["a b", "M", "--mail-type", "comment\\ntouch x", "comment=x", ""])
def test_a_name_that_is_no_option_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected the long name of an option of sbatch, without its hyphens"):
        load_profile(profile(tmp_path, f'[slurm.options]\n"{name}" = 1'))


def test_a_control_character_in_an_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"slurm\.options\.comment = .*: expected text without control characters"):
        load_profile(profile(tmp_path, '[slurm.options]\ncomment = "x\\ny"'))


def test_other_options_and_quotes_are_fine(tmp_path: Path) -> None:
    options = """comment = "$(touch x) 'quoted'"\nmail-type = "END"\nno-requeue = true\n"""
    text = f"""account = "lab's"\n[slurm.options]\n{options}"""

    found = load_profile(profile(tmp_path, text)).slurm

    assert found.account == "lab's"
    assert found.options == {"comment": "$(touch x) 'quoted'", "mail-type": "END", "no-requeue": True}
