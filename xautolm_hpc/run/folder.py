"""Where everything of a run lies on disk: every path below ``runs/NAME`` is spelled here and nowhere else."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from xautolm_hpc.errors import InputError, RunFolderError, quoted
from xautolm_hpc.jobdir import RUN_NAME


def check_run_name(name: str, *, where: str) -> None:
    """Check the name of a run.

    Args:
        name: The name.
        where: Where it was given, for the message.

    Raises:
        InputError: It is none.
    """
    if re.fullmatch(RUN_NAME.removesuffix("$"), name) is None:
        raise InputError(
            f"{where} {quoted(name)}: expected letters, digits, '.', '_' and '-', a letter or digit first: it is the "
            "name of a folder"
        )


def check_runs_path(path: Path) -> None:
    """Check the path of a folder of runs.

    Args:
        path: The path, absolute.

    Raises:
        RunFolderError: It has a character that submitit or Slurm replaces in the names of log files, or a line end.
    """
    odd = next((character for character in str(path) if character == "%" or not character.isprintable()), None)
    if odd is not None:
        raise RunFolderError(
            f"the folder of runs {quoted(str(path))} has the character {odd!r} in its path: submitit and Slurm would "
            "write elsewhere. Give another with --runs-dir"
        )


def submission_dir_beside(attempt_dir: Path) -> Path:
    """Name the folder of the submission of a single attempt."""
    return attempt_dir.with_name(f"submission-{attempt_dir.name}")


def attempt_dirs_in(generation_dir: Path) -> list[Path]:
    """List the attempt folders of a generation's trials, by trial and attempt."""
    found = [path for trial_dir in _numbered(generation_dir, "trial") for path in _numbered(trial_dir, "attempt")]
    return sorted(found, key=_place)


def submission_dirs_in(generation_dir: Path) -> list[Path]:
    """List the submission folders of a generation."""
    return _numbered(generation_dir, "submission")


def trial_number(attempt_dir: Path) -> int:
    """Read the number of the trial that an attempt folder belongs to."""
    return _number(attempt_dir.parent)


def job_prefix(run_id: str) -> str:
    """Name what all job names of a run begin with; older ledgers hold it, too."""
    return f"xa-{run_id[:8]}"


def generation_job_name(run_id: str, generation: int, *, submission: int) -> str:
    """Name the job of a submission of a generation."""
    return f"{job_prefix(run_id)}-g{generation:03d}-s{submission}"


def single_job_name(run_id: str, name: str) -> str:
    """Name the job of a single attempt, such as ``profile-0`` or ``final-0``."""
    return f"{job_prefix(run_id)}-{name}"


def _number(path: Path) -> int:
    """Read the number at the end of a folder's name: ``trial-012`` is 12."""
    return int(path.name.rpartition("-")[2])


def _numbered(folder: Path, name: str) -> list[Path]:
    """List what is called ``NAME-<number>`` in a folder, by number; a copy that somebody made is left out."""
    found = [path for path in folder.glob(f"{name}-*") if path.name.removeprefix(f"{name}-").isdecimal()]
    return sorted(found, key=_number)


def _place(attempt_dir: Path) -> tuple[int, int]:
    return trial_number(attempt_dir), _number(attempt_dir)


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run folder.

    Attributes:
        path: Absolute path of ``runs/NAME``.
    """

    path: Path

    @property
    def data_dir(self) -> Path:
        """Folder of the normalised split."""
        return self.path / "data"

    @property
    def kept_data_dir(self) -> Path:
        """Folder of the split while the data is profiled again."""
        return self.path / "data-kept"

    @property
    def report_dir(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    @property
    def ledger_path(self) -> Path:
        """The ledger."""
        return self.path / "ledger.jsonl"

    @property
    def prior_path(self) -> Path:
        """The prior, frozen when the run began."""
        return self.path / "priors.json"

    @property
    def run_path(self) -> Path:
        """Identity, settings and search space of the run."""
        return self.path / "run.json"

    @property
    def exists(self) -> bool:
        """Whether a run began here; what lies in the place of ``run.json`` may be damaged, or a link to nothing."""
        return os.path.lexists(self.run_path)

    @property
    def cancel_path(self) -> Path:
        """Is there while somebody wants the run cancelled; the driver then submits nothing more."""
        return self.path / "cancel"

    def profile_attempt_dir(self, attempt: int) -> Path:
        """Return the attempt folder of the profile job."""
        return self.path / "profile" / f"attempt-{attempt}"

    @property
    def final_dir(self) -> Path:
        """Folder of the jobs that evaluate on ``test``."""
        return self.path / "final"

    def final_attempt_dir(self, attempt: int) -> Path:
        """Return the attempt folder of a job that evaluates on ``test``."""
        return self.final_dir / f"attempt-{attempt}"

    def relative(self, path: Path) -> str:
        """Write a path below the run folder as the ledger holds it, so that a run may be moved."""
        return path.relative_to(self.path).as_posix()

    def generation_dir(self, generation: int) -> Path:
        """Return the folder of one generation."""
        return self.path / f"gen-{generation:03d}"

    def attempt_dir(self, generation: int, trial: int, *, attempt: int) -> Path:
        """Return the folder of one attempt; trials are numbered through the whole run."""
        return self.generation_dir(generation) / f"trial-{trial:03d}" / f"attempt-{attempt}"

    def profile_attempt_dirs(self) -> list[Path]:
        """List the attempt folders of the profile job, by attempt."""
        return _numbered(self.path / "profile", "attempt")

    def attempt_dirs(self) -> list[Path]:
        """List the attempt folders of all trials, by trial and attempt."""
        return sorted((path for folder in _numbered(self.path, "gen") for path in attempt_dirs_in(folder)), key=_place)

    def trial_attempt_dirs(self, trial: int) -> list[Path]:
        """List the attempt folders of a trial, by attempt; empty if there is no such trial."""
        return [path for path in self.attempt_dirs() if trial_number(path) == trial]

    def submission_dir(self, generation: int, submission: int) -> Path:
        """Return the folder of one submission of a generation."""
        return self.generation_dir(generation) / f"submission-{submission}"

    def create(self) -> None:
        """Make the run folder with mode 0700 if it is not there, and refuse one that others may write.

        Raises:
            RunFolderError: Its path has a character that may not be there; it is a link, cannot be made or written, is
                owned by somebody else, or is open to others.
        """
        check_runs_path(self.path)
        if self.path.is_symlink():
            raise RunFolderError(
                f"run folder `{self.path}` is a link to `{self.path.resolve()}`; a run is written into a folder of its "
                "own. Remove the link, or give the folder that it leads to with --runs-dir"
            )
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_open_folder(self.path)
            with TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise RunFolderError(
                f"run folder `{self.path}` cannot be written: {error.strerror}. Give another with --runs-dir"
            ) from error


def find_run(name: str, runs_dir: str) -> RunDir:
    """Find a run by the path of its folder, or by its name below the folder of runs.

    Raises:
        RunFolderError: There is none; the message lists those there are.
    """
    for path in (Path(name), Path(runs_dir) / name):
        if RunDir(path).exists:
            return RunDir(path.resolve())
    known = sorted(path.parent.name for path in Path(runs_dir).glob("*/run.json"))
    raise RunFolderError(
        f"no run {name!r} below `{runs_dir}`; there are: {', '.join(known) or 'none'}. Give its name or its folder"
    )


def _refuse_open_folder(path: Path) -> None:
    """Refuse a folder that somebody else owns or may write."""
    owner, mode, user = path.stat().st_uid, path.stat().st_mode, os.geteuid()
    if owner != user:
        raise RunFolderError(f"run folder `{path}` is owned by uid {owner}, not by you (uid {user}); use another")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RunFolderError(
            f"run folder `{path}` can be written by others (mode {stat.S_IMODE(mode):04o}); jobs run what lies "
            f"there. Close it with: chmod 0700 '{path}'"
        )
