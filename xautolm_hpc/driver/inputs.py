"""What a person gives a search: the files, read and checked, and their environment."""

import getpass
import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xautolm_hpc.catalogue import SizeReader, missing_weights, stand_in
from xautolm_hpc.config import ClusterProfile, SearchFile, load_profile, load_search, read_written, rebuild_search
from xautolm_hpc.container import find_package, make_container
from xautolm_hpc.dataset import missing_data
from xautolm_hpc.driver.launchers import gpus_of_job
from xautolm_hpc.driver.own_models import size_reader
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.errors import DataError, InputError
from xautolm_hpc.image import Container, read_image
from xautolm_hpc.launcher import Launcher
from xautolm_hpc.node import Clock, node_name
from xautolm_hpc.redact import redact, secrets_in
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.resume import RunConfig, effective_config
from xautolm_hpc.space import Space, find_refused, space_from_json, space_to_json
from xautolm_hpc.store import ExperienceStore, locate_store
from xautolm_hpc.submit.apptainer import verify_signature
from xautolm_hpc.submit.environment import worker_environment
from xautolm_hpc.view import Watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a person gives a search: files, read and checked, and their environment.

    Attributes:
        search: The search file.
        profile: The cluster profile it names.
        space: The search space it describes.
        hf_home: Offline cache of hub models.
        environ: The person's environment.
        written: The settings that the user wrote, in the search file or on the command line.
        words: What was given on the command line to name the search, for commands that are suggested.
    """

    search: SearchFile
    profile: ClusterProfile
    space: Space
    hf_home: Path
    environ: Mapping[str, str]
    written: Mapping[str, Any]
    words: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        search_path: Path,
        settings: tuple[str, ...],
        *,
        environ: Mapping[str, str],
        has_trials: Callable[[str], bool] = lambda name: False,
        is_to_fetch: bool = False,
    ) -> "Inputs":
        """Read a search file and the profile it names.

        What ``[[model]]`` tables leave out is read from the models' files, unless the search has trials: it goes on
        with the models it began with.

        Args:
            search_path: The search file.
            settings: ``KEY=VALUE`` pairs that replace values of it.
            environ: The person's environment.
            has_trials: Tells by its name whether a search has trials; if so, it goes on with what is now refused.
            is_to_fetch: Whether the models' files are still to be fetched; their sizes are then not read.

        Raises:
            ConfigError: A file is missing, or a key or value in it is not valid.
            InputError: The sizes of a model cannot be read, or the table of a model says others than its files; or
                no store that is read comes with this program under its name.
            SpaceError: The search file describes no space.
        """
        search = load_search(search_path, settings, has_trials=has_trials)
        profile = load_profile(Path(search.profile) if search.profile else None)
        words = (str(search_path), *(word for setting in settings for word in ("--set", setting)))
        is_read = not is_to_fetch and not has_trials(search.name)
        fetch = f"xautolm-hpc prefetch {shlex.join(words)}"
        reader = size_reader(find_hf_home(profile, environ), fetch=fetch) if is_read else stand_in
        try:
            for named in () if has_trials(search.name) else search.store.also_read:
                locate_store(named)
            inputs = cls.of(search, profile, environ=environ, read_sizes=reader)
        except InputError as error:
            error.add_note(f"in `{search_path}`")
            raise
        return replace(inputs, written=read_written(search_path, settings), words=words)

    @classmethod
    def of(
        cls,
        search: SearchFile,
        profile: ClusterProfile,
        *,
        environ: Mapping[str, str],
        read_sizes: SizeReader | None = None,
    ) -> "Inputs":
        """Build the inputs from what was read already.

        Args:
            search: The search file.
            profile: The cluster profile.
            environ: The person's environment.
            read_sizes: Reads what ``[[model]]`` tables leave out; ``None`` reads the models' files.

        Raises:
            InputError: The sizes of a model cannot be read, or the table of a model says others than its files.
            SpaceError: The search file describes no space.
        """
        hf_home = find_hf_home(profile, environ)
        return cls(
            search=search,
            profile=profile,
            space=search.build_space(read_sizes or size_reader(hf_home)),
            hf_home=hf_home,
            environ=environ,
            written=search.model_dump(mode="json", exclude_unset=True),
        )

    def refused(self) -> list[str]:
        """List what only a search that has trials may still say of hyperparameters, a line each."""
        return find_refused(self.written.get("space"))

    def run_config(self) -> RunConfig:
        """Return the configuration that a run with these inputs stores."""
        search = self.search.model_dump(mode="json")
        return RunConfig(search=search, written=self.written, space=space_to_json(self.space))

    def for_run(self, run_dir: RunDir) -> "Inputs":
        """Return these inputs with the settings and the search space that a run started with, if it exists.

        Args:
            run_dir: The run folder, which need not exist.

        Raises:
            InputError: The run's settings or space have a key or value that this version does not know.
        """
        config, where = effective_config(run_dir, self.run_config()), run_dir.run_path
        search = rebuild_search(config.search, path=where)
        return replace(self, search=search, space=space_from_json(config.space, where=str(where)))

    def check(self) -> None:
        """Find out before anything is submitted what can be known before.

        Raises:
            InputError: A model's weights are not at hand.
            DataError: The data is not there.
            NoStoreError: ``store.path`` is a file, lies below one, or comes with this program.
        """
        profile, search = self.profile, self.search
        ExperienceStore(locate_store(search.store.path)).check_place(setting="store.path")
        if profile.container is not None:
            read_image(Path(profile.container.image), machine=platform.machine())
        if search.data.path and not Path(search.data.path).exists():
            raise DataError(f"`{search.data.path}` does not exist. Set data.path in the search file or with --set")
        # An image gets its packages that carry models from here.
        worker_is_here = profile.worker_python in (None, sys.executable)
        missing = missing_data(search.data, self.hf_home)
        missing += missing_weights(self.space.models, self.hf_home, has_package=find_spec if worker_is_here else None)
        if missing:
            error = InputError("\n".join(missing))
            if search.data.hub or any(model.hub_repo for model in self.space.models):
                error.add_note(f"where there is a network: xautolm-hpc prefetch {shlex.join(self.words)}")
            raise error

    def worker_environment(self) -> dict[str, str]:
        """Return the environment variables that a worker gets.

        Raises:
            ConfigError: The profile names a variable that looks like a secret.
        """
        profile = self.profile
        return worker_environment(
            n_threads=profile.job.n_cpus,
            hf_home=str(self.hf_home),
            allow=profile.environment.allow,
            settings=profile.environment.set,
            environ=self.environ,
        )

    def container(self) -> Container | None:
        """Read the image that the profile names and list what a worker sees in it; ``None`` if it names none.

        Raises:
            ImageError: The image is missing, damaged, for another processor or not signed with the site's key, or
                what is to be bound is missing.
        """
        section = self.profile.container
        if section is None:
            return None
        container = make_container(
            section,
            self.space.models,
            hf_home=self.hf_home,
            n_gpus=gpus_of_job(self.profile),
            find_package=find_package,
        )
        if container.verify_key:
            verify_signature(container.program, container.image, key_path=container.verify_key)
        return container

    def setup(
        self,
        run_dir: RunDir,
        run_id: str,
        *,
        launcher: Launcher,
        clock: Clock,
        watcher: Watcher,
        n_interrupts: Callable[[], int],
    ) -> Setup:
        """Build what a search is run with.

        Args:
            run_dir: The run folder.
            run_id: UUID of the run.
            launcher: Starts and watches jobs.
            clock: Time.
            watcher: Is shown the run.
            n_interrupts: Tells how often the person pressed Ctrl-C.
        """
        profile = self.profile
        python = profile.container.python if profile.container else profile.worker_python or sys.executable
        return Setup(
            search=self.search,
            profile=profile,
            space=self.space,
            run_dir=run_dir,
            run_id=run_id,
            config=self.run_config(),
            launcher=launcher,
            clock=clock,
            watcher=watcher,
            worker=(python,),
            worker_environment=self.worker_environment(),
            hf_home=str(self.hf_home),
            redact=_redactor(self.environ),
            n_interrupts=n_interrupts,
            container=self.container(),
        )


def find_hf_home(profile: ClusterProfile, environ: Mapping[str, str]) -> Path:
    """Return the offline cache of hub models: the profile's, else that of HF_HOME, else the usual one.

    Args:
        profile: The cluster profile.
        environ: The person's environment.
    """
    named = profile.hf_home or environ.get("HF_HOME")
    return Path(named).expanduser() if named else Path(environ.get("HOME", "/")) / ".cache" / "huggingface"


def _redactor(environ: Mapping[str, str]) -> Callable[[str], str]:
    return partial(
        redact,
        secrets=secrets_in(environ),
        user=getpass.getuser(),
        host=node_name(),
        home=environ.get("HOME", ""),
    )
