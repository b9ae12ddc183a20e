"""What a search adds to XAutoLM as it was published: its report names it, so that results can be compared."""

from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.store.packaged import PACKAGED_STORES

NOT_ON = {"constraints.min_steps": 0, "trial.early_stopping_min_steps": 0, "trial.at_limit": "fail"}
"""Dotted key of a search file -> its value where trials run as those of the publication do."""

WITHOUT_EFFECT = ("off", "log")
"""Values of ``trial.foretell`` that change no trial."""


def list_additions(setup: Setup, *, min_steps: int) -> dict[str, str | int]:
    """List the settings that change what XAutoLM would draw, or how its trials end, as they hold for a search.

    Args:
        setup: What the search is run with.
        min_steps: Least steps of a trial after its warm-up, as the constraints have them.

    Returns:
        Dotted key of a search file -> its value, of what is on.
    """
    values = {
        "constraints.min_steps": min_steps,
        "trial.early_stopping_min_steps": setup.early_stopping_min_steps(),
        "trial.at_limit": setup.at_limit().value,
    }
    found: dict[str, str | int] = {key: value for key, value in values.items() if value != NOT_ON[key]}
    if setup.foretell().value not in WITHOUT_EFFECT:
        found["trial.foretell"] = setup.foretell().value
    packaged = [written for written in setup.search.store.also_read if written in PACKAGED_STORES]
    return {**found, "store.also_read": ", ".join(packaged)} if packaged else found
