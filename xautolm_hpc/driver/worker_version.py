"""Whether the worker is of a version that understands what a search asks of it."""

from collections.abc import Mapping

from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import ADDED, PROTOCOL, ProfileResult, TrialPlan


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
    for key, (value, since) in _asked(setup).items():
        if value and since > profile.protocol:
            raise InputError(
                f"the worker `{python}` has an earlier version of xautolm-hpc, which does not know {key} = {value}: "
                "every trial would fail. Install this version there, or take the setting out: "
                f"{key} = 0"
            )
    setup.watcher.log(
        f"the worker `{python}` has an earlier version of xautolm-hpc: what only later ones measure stays unknown"
    )


def _asked(setup: Setup) -> Mapping[str, tuple[int, int]]:
    """List the settings that put a key into the files of a trial: value, and the protocol that knows the key.

    A key that ``profile.json`` has is not among them: a worker that does not know it refuses the profile job.
    """
    written = setup.search.trial.early_stopping_min_steps
    min_steps = setup.space.early_stopping_min_steps if written is None else written
    since = ADDED[TrialPlan]["early_stopping_min_steps"]
    return {"trial.early_stopping_min_steps": (min_steps, since)}
