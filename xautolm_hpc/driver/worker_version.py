"""Whether the worker is of a version that understands what a search asks of it."""

import dataclasses
import json
from collections.abc import Callable, Mapping

from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import ADDED, PROTOCOL, Claim, ProfileResult, TrialPlan


def check_worker_version(setup: Setup, profile: ProfileResult) -> None:
    """Compare the worker's version, as its profile job wrote it, with what the search asks of trials.

    A worker refuses keys that it does not know, so that every trial would fail. Called before the first trial is drawn:
    the settings may then still be changed. A worker in an image has the driver's own version, which is bound into it.

    Args:
        setup: What the search is run with.
        profile: Result of the profile job.

    Raises:
        InputError: The worker does not know a key that is needed.
    """
    if profile.protocol >= PROTOCOL:
        return
    python = setup.worker[0]
    off = {field.name: field.default for field in dataclasses.fields(TrialPlan)}
    unknown = {
        name: asked
        for name, since in ADDED[TrialPlan].items()
        if since > profile.protocol and (asked := ASKED[name](setup)) != off[name]
    }
    if unknown:
        raise InputError(
            f"the worker `{python}` has an earlier version of xautolm-hpc, which does not know {_settings(unknown)}: "
            "every trial would fail. Install this version there, or set "
            f"{_settings({name: off[name] for name in unknown})}"
        )
    setup.watcher.log(
        f"the worker `{python}` has an earlier version of xautolm-hpc: what only later ones measure stays unknown"
    )


def check_trials_per_job(setup: Setup, profile: ProfileResult) -> None:
    """Refuse several trials in a job of a worker that does not claim each of them safely.

    Called whenever a driver begins its work, since the cluster profile may change while a search is under way.

    Args:
        setup: What the search is run with.
        profile: Result of the profile job.

    Raises:
        InputError: The worker is of such an earlier version.
    """
    n = setup.profile.job.trials_per_job
    if n > 1 and profile.protocol < SAFE_CLAIMS:
        raise InputError(
            f"the worker `{setup.worker[0]}` has an earlier version of xautolm-hpc, which cannot run several trials in "
            f"a job safely: job.trials_per_job = {n}. Install this version there, or set job.trials_per_job = 1"
        )


SAFE_CLAIMS = ADDED[Claim]["job_started_at"]
"""Protocol since which a worker claims each trial of a job before it begins it."""

ASKED: Mapping[str, Callable[[Setup], object]] = {
    "early_stopping_min_steps": lambda setup: setup.early_stopping_min_steps(),
    "step": lambda setup: setup.search.trial.step,
    "at_limit": lambda setup: setup.at_limit().value,
    "foretell": lambda setup: setup.foretell().value,
}
"""Added field of a trial's plan -> what a search asks for, by the setting of its name under ``trial``.

A key that ``profile.json`` has is not among them: a worker that does not know it refuses the profile job.
"""


def _settings(values: Mapping[str, object]) -> str:
    """Write settings as in a search file."""
    return ", ".join(f"trial.{name} = {json.dumps(value)}" for name, value in values.items())
