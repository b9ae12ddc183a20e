"""Models in search files: tables of one's own, and the names of lists."""

from pathlib import Path

import pytest

from tests.nouns import OWN_MODEL
from tests.test_config import SEARCH, search
from xautolm_hpc.catalogue import load_lists, stand_in
from xautolm_hpc.errors import InputError


def test_every_bad_model_of_ones_own_is_named_at_once(tmp_path: Path) -> None:
    text = SEARCH + OWN_MODEL.replace("1000", "'big'") + "[[model]]\nrepo = 'a/b'\nwidth = 3\n[[model]]\nid = 7\n"

    with pytest.raises(InputError, match="expected int") as refusal:
        search(tmp_path, text=text)

    lines = str(refusal.value).splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "[[model]]: n_parameters: expected int, found 'big'",
        "[[model]]: unknown key 'width' in Model",
        "[[model]]: id: expected str, found 7",
    ]


def test_a_model_is_called_by_its_repository_or_by_the_name_of_its_folder(tmp_path: Path) -> None:
    text = SEARCH + "[[model]]\nrepo = 'some/model'\n[[model]]\npath = 'weights/mine'\n"

    read = search(tmp_path, "space.models=['some/model', 'mine']", text=text)

    assert [model.id for model in read.build_space(stand_in).models] == ["some/model", "mine"]


def test_the_name_of_a_list_stands_for_its_models_that_learn_the_kind_of_task(tmp_path: Path) -> None:
    every = search(tmp_path, "space.models=small").build_space()
    writing = search(tmp_path, "space.models=small", "task.kind=text-generation").build_space()

    assert tuple(model.id for model in every.models) == load_lists()["small"]
    assert {model.family for model in writing.models} == {"decoder", "seq2seq"}
    assert {model.id for model in writing.models} < set(load_lists()["small"])
