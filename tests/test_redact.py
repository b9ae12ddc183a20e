"""What is stored or shown names no person and holds no secret."""

import pytest

from xautolm_hpc.errors import ConfigError
from xautolm_hpc.redact import SECRET_NAMES, redact, secrets_in
from xautolm_hpc.submit.environment import node_environment, worker_environment


def test_secrets_are_the_values_of_variables_whose_names_say_so() -> None:
    environ = {
        "HF_TOKEN": "hf_abcdef",
        "AWS_ACCESS_KEY_ID": "AKIA1234",
        "Db_Password": "s3cret-longest",
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": "/usr/bin:/bin",
    }

    secrets = secrets_in(environ)

    assert secrets == ("s3cret-longest", "hf_abcdef", "AKIA1234")


@pytest.mark.parametrize("part", SECRET_NAMES)
def test_what_is_kept_from_jobs_is_taken_out_of_texts_too(part: str) -> None:
    environ = {f"SLURM_{part}": "planted-value", f"my_{part.lower()}_2": "planted-other"}

    assert node_environment(environ) == {}
    for name in environ:
        with pytest.raises(ConfigError, match=f"'{name}', which looks like a secret"):
            worker_environment(n_threads=1, allow=[name], environ=environ)
    text = redact("planted-value and planted-other", secrets_in(environ), user="", host="", home="")
    assert text == "<SECRET> and <SECRET>"


def test_a_token_of_a_known_shape_goes_wherever_it_came_from() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSIsImV4cCI6MX0.c2lnbmF0dXJl-_"
    hub = "hf_" + "aB3" * 11

    text = redact(f"Bearer {jwt}, token={hub}; hf_transfer eyJ.x", (), user="", host="", home="")

    assert text == "Bearer <SECRET>, token=<SECRET>; hf_transfer eyJ.x"


def test_a_secret_goes_also_inside_a_longer_word() -> None:
    text = redact("GET https://x/?t=hf_abcdef9", ("hf_abc", "hf_abcdef"), user="", host="", home="")

    assert text == "GET https://x/?t=<SECRET>9"


def test_home_host_and_user_are_replaced() -> None:
    text = redact(
        'File "/home/ada/run.py" on node7.site.org (node7) of ada',
        (),
        user="ada",
        host="node7.site.org",
        home="/home/ada/",
    )

    assert text == 'File "<HOME>/run.py" on <HOST> (<HOST>) of <USER>'


def test_a_name_inside_another_word_stays() -> None:
    text = redact("adam went to node77, /home/adam and ada-2", (), user="ada", host="node7", home="/home/ada")

    assert text == "adam went to node77, /home/adam and ada-2"


def test_nothing_known_replaces_nothing() -> None:
    text = redact("/a/b c", (), user="", host="", home="/")

    assert text == "/a/b c"
